//go:build race

package compute_test

// pairStride: under the race detector the database is some ten times slower; each pair of points is
// tried without it.
const pairStride = 5

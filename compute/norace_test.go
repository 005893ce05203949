//go:build !race

package compute_test

// pairStride is the distance between the points at which pairs of kills are tried: all of them.
const pairStride = 1

// Package metadata answers guests that ask who they are: OpenStack's and EC2's documents on 169.254.169.254.
package metadata

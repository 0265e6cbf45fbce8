//go:build !race

package link

// raceDetector is whether the race detector is on: it makes frames larger, so that stacks cannot be measured.
const raceDetector = false

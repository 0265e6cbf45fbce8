//go:build !race

package pbstream

const raceEnabled = false

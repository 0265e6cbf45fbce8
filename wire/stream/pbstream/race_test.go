//go:build race

package pbstream

const raceEnabled = true

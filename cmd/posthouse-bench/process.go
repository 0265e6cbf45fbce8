package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of the times in /proc/PID/stat; Linux shows them to programs in hundredths of a second.
const clockTick = 10 * time.Millisecond

// usage is what the server's processes have used.
type usage struct {
	cpu time.Duration // user and system time, waited-for children included
	rss int64         // resident bytes
}

// serverUsage sums the given processes and all their descendants. Without process ids it is zero.
func (o *options) serverUsage() (usage, error) {
	var sum usage
	if o.pids == "" {
		return sum, nil
	}
	roots := map[int]bool{}
	for field := range strings.SplitSeq(o.pids, ",") {
		pid, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return sum, fmt.Errorf("-pid %q: not a process id", field)
		}
		roots[pid] = true
	}
	parents, stats := processes()
	for pid, fields := range stats {
		for p := pid; p > 1; p = parents[p] {
			if roots[p] {
				sum.add(fields)
				break
			}
		}
	}
	if sum.rss == 0 {
		return sum, fmt.Errorf("-pid %s: no such process", o.pids)
	}
	return sum, nil
}

// processes reads /proc: each process's parent and the fields of its stat file after the command's name.
func processes() (parents map[int]int, stats map[int][]string) {
	parents, stats = map[int]int{}, map[int][]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 21 {
			parents[pid], _ = strconv.Atoi(fields[1])
			stats[pid] = fields
		}
	}
	return parents, stats
}

func (u *usage) add(fields []string) {
	for _, i := range []int{11, 12} { // utime, stime: proc_pid_stat(5) fields 14 and 15
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		u.cpu += time.Duration(n) * clockTick
	}
	pages, _ := strconv.ParseInt(fields[21], 10, 64) // rss: field 24
	u.rss += pages * int64(os.Getpagesize())
}

package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets whose width is at most 1/32 of their value. The zero value is ready;
// it may be used by many goroutines at once.
type histogram struct {
	buckets [64 * 32]atomic.Uint64
	max     atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(uint64(d))].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func bucketOf(v uint64) int {
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return (shift+1)*32 + int(v>>shift) - 32
}

// upper returns the largest value in a bucket.
func upper(bucket int) uint64 {
	if bucket < 32 {
		return uint64(bucket)
	}
	shift := bucket/32 - 1
	return (uint64(bucket%32+32)+1)<<shift - 1
}

// percentiles of a run, in milliseconds.
type percentiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99.9_ms"`
	Max   float64 `json:"max_ms"`
}

func (h *histogram) percentiles() percentiles {
	var total uint64
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	at := func(q float64) float64 {
		rank, seen := uint64(q*float64(total)), uint64(0)
		for i := range h.buckets {
			if seen += h.buckets[i].Load(); seen > rank {
				return min(float64(upper(i)), float64(h.max.Load())) / 1e6
			}
		}
		return float64(h.max.Load()) / 1e6
	}
	return percentiles{Count: total, P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999),
		Max: float64(h.max.Load()) / 1e6}
}

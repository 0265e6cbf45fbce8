package pebble

// generations is a bounded memory of what was used lately. When an age begins and the young generation has reached half
// the limit, it becomes the old one, and what the old one held is forgotten; what is used again moves to the young one.
// The owner says when an age begins, so that nothing is forgotten between. Not for concurrent use.
type generations[K comparable, V any] struct {
	young, old map[K]V
	// half of the limit, and size of the young generation, in bytes as weigh counts them.
	half, size int
	weigh      func(V) int
}

// newGenerations makes one that is bounded in bytes. weigh says about how much an entry takes with its key; it is
// always the same for the same one.
func newGenerations[K comparable, V any](limit int, weigh func(V) int) generations[K, V] {
	return generations[K, V]{young: make(map[K]V), half: max(1, limit/2), weigh: weigh}
}

// age begins an age.
func (g *generations[K, V]) age() {
	if g.size >= g.half {
		g.old, g.young, g.size = g.young, make(map[K]V), 0
	}
}

func (g *generations[K, V]) get(k K) (v V, known bool) {
	if v, known = g.young[k]; known {
		return v, true
	}
	if v, known = g.old[k]; known {
		g.put(k, v)
	}
	return v, known
}

// put remembers k. It is kept: no piece of something larger.
func (g *generations[K, V]) put(k K, v V) {
	if _, known := g.young[k]; !known {
		g.size += g.weigh(v)
	}
	g.young[k] = v
}

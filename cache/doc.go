// Package cache keeps what was read from somewhere slower, within bounds.
//
// A [Cache] is a map that is bounded, whose entries can expire, and that does not remember what was read while it was
// invalidated: a reader takes a [Token] before it reads, and what it then puts is dropped if the key was invalidated in
// between. [Cache.Load] does that for a caller, and reads once for many who ask at the same time.
//
// The package owns no goroutine. What has expired is not returned; its memory is given back when room is needed, or by
// [Cache.Sweep], which an owner with a timer calls.
package cache

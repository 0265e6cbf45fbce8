// Package cache holds values that were read from a slower source, within bounds.
//
// A [Cache] is a bounded map whose entries can expire. It does not store a value that became outdated while it was
// read: a reader takes a [Token] before it reads, and its Put is dropped if the key was invalidated since then.
// [Cache.Load] does this for the caller, and reads once for many callers that ask at the same time.
//
// The package owns no goroutine. Expired entries are never returned. Their memory is freed when room is needed, or by
// [Cache.Sweep], which an owner with a timer calls.
package cache

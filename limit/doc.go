// Package limit bounds how often something may be done, by token buckets, that is by the generic cell rate algorithm
// (GCRA).
//
// A [Rate] says how many tokens a bucket holds and how fast they come back. A [Bucket] is eight bytes, for what has one
// limit of its own, such as a connection. A [Table] has a bucket for each of many keys, such as accounts or addresses,
// and is bounded. Beside them, a [Gate] bounds how many do something at once. The package owns no goroutine and no
// timer; nothing in it allocates after a key is known.
package limit

// Package limit bounds how often something may be done, with token buckets. They are implemented by the generic cell
// rate algorithm (GCRA).
//
// A [Rate] says how many tokens a bucket holds and how fast it is refilled. A [Bucket] takes eight bytes and is for a
// single limit, such as that of a connection. A [Table] has a bucket for each of many keys, such as accounts or
// addresses, and is bounded. A [Gate] bounds how many goroutines do something at once, [Turns] how many for each of
// many keys. The package owns no goroutine. No bucket allocates once its key is known.
package limit

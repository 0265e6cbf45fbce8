package session

import "context"

// replyKey is the context key of the functions to run after an answer was queued.
type replyKey struct{}

// WithReply returns a context for the handler of an IQ request, and the function to call when the answer has been
// queued: it runs what the handler left with AfterReply.
func WithReply(ctx context.Context) (context.Context, func()) {
	var after []func()
	return context.WithValue(ctx, replyKey{}, &after), func() {
		for _, f := range after {
			f()
		}
	}
}

// AfterReply runs f when the answer to the IQ request of this context has been queued, on the same goroutine:
// what must follow the answer, such as the roster pushes of RFC 6121 §2.6.3. Without such a context f runs at once.
func AfterReply(ctx context.Context, f func()) {
	if after, ok := ctx.Value(replyKey{}).(*[]func()); ok {
		*after = append(*after, f)
		return
	}
	f()
}

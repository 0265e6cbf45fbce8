package session

import "context"

// BeginWelcome is called when a session is told who of its contacts is there, which may take a while, and when it is
// not to be told any more: what was begun before is over. It returns what WelcomeGoesOn is asked with.
func (s *Session) BeginWelcome() uint32 {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	s.welcomes++
	return s.welcomes
}

// WelcomeGoesOn reports whether no other welcome was begun since, and the session is there.
func (s *Session) WelcomeGoesOn(begun uint32) bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	return s.welcomes == begun && !s.gone && s.presence != nil
}

// HasRoom reports whether WaitRoom would return at once.
func (s *Session) HasRoom() bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.outbox.WaitRoom(ctx) == nil
}

// WaitRoom waits until the session's queue has room for more of what the server itself has to say to it, as
// Outbox.WaitRoom does: whatever the amount, it is paced by the client that reads it.
func (s *Session) WaitRoom(ctx context.Context) error { return s.outbox.WaitRoom(ctx) }

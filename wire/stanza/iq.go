package stanza

// CheckIQ holds an IQ to RFC 6120 §8.2.3. nil means that it is well formed.
func (s *Stanza) CheckIQ() *Error {
	switch s.Type {
	case TypeGet, TypeSet:
		if len(s.Payload) != 1 {
			return Refuse(BadRequest, "A request has exactly one child element.")
		}
	case TypeResult:
		if len(s.Payload) > 1 {
			return Refuse(BadRequest, "A result has at most one child element.")
		}
	case TypeError:
		if s.Child(NSClient, "error") == nil {
			return Refuse(BadRequest, "An error has an error element.")
		}
	default:
		return Refuse(BadRequest, "The type of an IQ is get, set, result or error.")
	}
	if s.ID == "" {
		return Refuse(BadRequest, "An IQ needs an id.")
	}
	return nil
}

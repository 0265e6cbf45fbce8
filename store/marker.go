package store

// MarkerKind says what a marker tells. Zero is none.
type MarkerKind uint8

const (
	// MarkDelivered: through that number messages have reached a device of the member.
	MarkDelivered MarkerKind = 1
	// MarkRead: through that number the member has read, and others may know it.
	MarkRead MarkerKind = 2
	// MarkReadPrivate: the same, but only the member's own devices may know it.
	MarkReadPrivate MarkerKind = 3
)

// Marker is how far one member of a conversation has come. It is state: there is one for each conversation, member and
// kind, which only moves forward. A change takes an identity of the log and no number: it is no message.
//
// The current marker is a result of MessageReader.History, Undelivered and Since at the identity of its last change,
// and is gone from there when it is changed again; an identity that it had before is a position in the log like any
// other.
type Marker struct {
	// Account is the member; 0 is the party of a direct conversation that has no account here.
	Account AccountID
	Kind    MarkerKind
	// Through is a number of the conversation.
	Through uint64
	// ID is the identity of the last change.
	ID MessageID
	// Told, of a MarkDelivered in a direct conversation, is through which number a device of the other party was told,
	// see MessageWriter.Deliver.
	Told uint64
}

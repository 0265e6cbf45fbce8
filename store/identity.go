package store

// Identity says which database and which message log belong together: both have the same.
type Identity struct {
	// Store is random, and made with the database.
	Store [16]byte
	// Epoch is 0 until the stores are restored from a backup, and a new random number each time that they are. What
	// clients hold of another epoch, such as sync cursors, may name what is not there any more.
	Epoch uint64
}

// IsZero reports whether it is none.
func (i Identity) IsZero() bool { return i == Identity{} }

package service

// Keypads names PINs. What a PIN is, a door and its courier know; a grant remembers its
// name, by which the door reports.
type Keypads interface {
	// Permit names the PIN of a minute (since 1970) at the keypad of a key, the same each
	// time. An error says that it is no key.
	Permit(key []byte, minute uint64) ([16]byte, error)
}

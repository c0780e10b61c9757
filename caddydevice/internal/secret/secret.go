// Package secret holds the type for everything that must never be printed.
package secret

// redacted is what a secret prints as, wherever it ends up.
const redacted = "REDACTED"

// String is a string that does not print itself: not with fmt, not as JSON or
// text, not in a structured log. Reveal is the only way to its value, so every
// use of a secret can be found by that name.
type String string

// Reveal returns the secret itself.
func (s String) Reveal() string { return string(s) }

func (String) String() string               { return redacted }
func (String) GoString() string             { return redacted }
func (String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

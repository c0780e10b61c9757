// This file holds session keys: what they look like, their kinds, and the id
// that is all the gateway keeps of one.

package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

// KeyPrefix starts every session key, so that a person, a log filter and a
// secret scanner can tell it from other tokens.
const KeyPrefix = "dvc_"

// keyBytes are 256 random bits: nobody guesses one, and no two are the same.
const keyBytes = 32

// Kind says what a session key may be used for. It is fixed when the key is
// made.
type Kind string

const (
	// Browser keys live in the cookie only: never printed, refused as a
	// bearer, and replaced once by the claim.
	Browser Kind = "browser"
	// Terminal keys are printed to a program's user, accepted as a bearer,
	// and never replaced.
	Terminal Kind = "terminal"
)

// Key is a client's secret. It prints as REDACTED.
type Key struct{ secret.String }

// NewKey makes a key.
func NewKey() Key {
	raw := make([]byte, keyBytes)
	rand.Read(raw) // never fails: it ends the program instead
	return Key{secret.String(KeyPrefix + base64.RawURLEncoding.EncodeToString(raw))}
}

// ParseKey accepts exactly what NewKey makes, so that a malformed key costs no
// look-up.
func ParseKey(text string) (Key, bool) {
	encoded, ok := strings.CutPrefix(text, KeyPrefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(keyBytes) {
		return Key{}, false
	}
	// strict: one key has one spelling; and Go skips line breaks otherwise
	if _, err := base64.RawURLEncoding.Strict().DecodeString(encoded); err != nil || strings.ContainsAny(encoded, "\r\n") {
		return Key{}, false
	}
	return Key{secret.String(text)}, true
}

// ID is SHA-256 of a session key: the only form in which a session is stored,
// logged or shown to an operator.
type ID [sha256.Size]byte

// ID returns the id of the key's session.
func (k Key) ID() ID { return sha256.Sum256([]byte(k.Reveal())) }

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// parseID reads what String writes.
func parseID(text string) (ID, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(ID{}) {
		return ID{}, false
	}
	return ID(raw), true
}

// Short is enough of the id to follow a session through a log.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// This file holds the sealing of a record's body under a key derived from the
// session key: who has the store has nothing, and who has the session key
// alone has nothing either.

package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
	"github.com/caddydevice/device-auth/caddydevice/store"
)

// sealInfo separates this use of a session key from any other, and one format
// of the body from the next.
const sealInfo = "caddydevice session body 1"

// ErrSealed is the error of a body that this key does not open: of another
// session, of another version of it, or damaged. Such a record counts as none.
var ErrSealed = errors.New("record does not belong to this session key")

// body is what only the client's key opens. State, Expires and Idle stand here
// because nothing in a record's clear part may sign anybody in.
type body struct {
	State   State         `json:"state"`
	Expires time.Time     `json:"expires"`
	Idle    time.Duration `json:"idle,omitempty"`
	Life    time.Duration `json:"life,omitempty"`
	Used    time.Time     `json:"used,omitzero"`
	Sent    int           `json:"refresh_sent,omitempty"`

	Login    *loginBody    `json:"login,omitempty"`
	Earlier  []*loginBody  `json:"earlier,omitempty"`
	Params   []Param       `json:"params,omitempty"`
	Renewals int           `json:"renewals,omitempty"`
	Confirm  bool          `json:"confirm,omitempty"`
	Identity *identityBody `json:"identity,omitempty"`

	// Successor is the new key, in the record that the claim superseded.
	Successor string `json:"successor,omitempty"`
	// From is the id of the record that this one was claimed from.
	From string `json:"from,omitempty"`
}

type loginBody struct {
	DeviceCode string        `json:"device_code"`
	Verifier   string        `json:"code_verifier,omitempty"`
	UserCode   string        `json:"user_code"`
	URI        string        `json:"verification_uri"`
	Complete   string        `json:"verification_uri_complete,omitempty"`
	Interval   time.Duration `json:"interval"`
	Issued     time.Time     `json:"issued,omitzero"`
	Expires    time.Time     `json:"expires,omitzero"`
}

func (l *Login) body() *loginBody {
	return &loginBody{
		DeviceCode: l.DeviceCode.Reveal(), Verifier: l.CodeVerifier.Reveal(), UserCode: l.UserCode, URI: l.VerificationURI,
		Complete: l.VerificationURIComplete, Interval: l.Interval, Issued: l.Issued, Expires: l.Expires,
	}
}

func (l *loginBody) login() Login {
	return Login{
		DeviceCode: secret.String(l.DeviceCode), CodeVerifier: secret.String(l.Verifier), UserCode: l.UserCode, VerificationURI: l.URI,
		VerificationURIComplete: l.Complete, Interval: l.Interval, Issued: l.Issued, Expires: l.Expires,
	}
}

type identityBody struct {
	Issuer       string          `json:"iss"`
	Subject      string          `json:"sub"`
	SID          string          `json:"sid,omitempty"`
	Claims       json.RawMessage `json:"claims"`
	AccessToken  string          `json:"access_token,omitempty"`
	RefreshToken string          `json:"refresh_token,omitempty"`
	IDToken      string          `json:"id_token,omitempty"`
	Since        time.Time       `json:"since"`
	Asked        time.Time       `json:"asked,omitzero"`
	TokensSince  time.Time       `json:"tokens_since,omitzero"`
	TokensUntil  time.Time       `json:"tokens_until,omitzero"`
}

// sealer derives the AEAD of one session key (RFC 5869 HKDF, then AES-256-GCM).
func sealer(k Key) (cipher.AEAD, error) {
	raw, err := hkdf.Key(sha256.New, []byte(k.Reveal()), nil, sealInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal closes plain for rec, whose ID, Kind, Site, Provider, Created and
// Version it is bound to. The nonce is random: a record is written far fewer
// times than would make one repeat.
func seal(k Key, rec store.Record, plain []byte) ([]byte, error) {
	aead, err := sealer(k)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, associated(rec)), nil
}

// unseal opens rec's body.
func unseal(k Key, rec store.Record) ([]byte, error) {
	aead, err := sealer(k)
	if err != nil {
		return nil, err
	}
	if len(rec.Body) < aead.NonceSize() {
		return nil, ErrSealed
	}
	nonce, sealed := rec.Body[:aead.NonceSize()], rec.Body[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, sealed, associated(rec))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// associated encodes what a body is bound to, each part with its length.
func associated(rec store.Record) []byte {
	var b []byte
	for _, part := range []string{rec.ID, rec.Kind, rec.Site, rec.Provider} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(rec.Created.UnixNano()))
	return binary.BigEndian.AppendUint64(b, rec.Version)
}

// record makes the stored form of a snapshot.
func (s *Session) record(snap *Snapshot) (store.Record, error) {
	rec := store.Record{
		ID:       s.id.String(),
		Kind:     string(s.kind),
		Site:     s.site,
		Provider: s.table.provider,
		Created:  s.created,
		Version:  snap.Version,
		State:    string(snap.State),
		Reason:   string(snap.Reason),
		Changed:  snap.Changed,
		Until:    snap.retainUntil(),
	}
	if id := snap.Identity; id != nil {
		rec.Subject = id.Subject
		rec.Indexes = id.indexes()
	}
	b := snap.body()
	if b == nil {
		return rec, nil
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return rec, fmt.Errorf("encoding session: %w", err)
	}
	rec.Body, err = seal(s.key, rec, plain)
	return rec, err
}

// body returns what is sealed of a snapshot, nil where it is over: its tokens
// and claims are gone then. A superseded one keeps the new key, and what the
// new record is made from, until that key is in use.
func (snap *Snapshot) body() *body {
	if snap.settled() {
		return nil
	}
	b := &body{State: snap.State, Expires: snap.Expires, Idle: snap.idle, Life: snap.lifetime, Used: snap.used, Sent: snap.Presented, Successor: snap.successor.Reveal(), From: snap.from}
	if l := snap.Login; l != nil {
		b.Login, b.Params, b.Renewals, b.Confirm = l.body(), snap.Params, snap.Renewals, snap.confirm
		for _, earlier := range snap.Earlier {
			b.Earlier = append(b.Earlier, earlier.body())
		}
	}
	if id := snap.Identity; id != nil {
		claims, err := json.Marshal(id.Claims)
		if err != nil {
			claims = json.RawMessage("{}") // cannot be: they were decoded from JSON
		}
		b.Identity = &identityBody{
			Issuer: id.Issuer, Subject: id.Subject, SID: id.SessionID, Claims: claims,
			AccessToken: id.AccessToken.Reveal(), RefreshToken: id.RefreshToken.Reveal(), IDToken: id.IDToken.Reveal(), Since: id.Since,
			Asked: id.Asked, TokensSince: id.TokensSince, TokensUntil: id.TokensUntil,
		}
	}
	return b
}

// openRecord opens a stored record. A record that is over needs no key.
func openRecord(k Key, rec store.Record) (*Snapshot, error) {
	snap := &Snapshot{
		State:   State(rec.State),
		Reason:  Reason(rec.Reason),
		Version: rec.Version,
		Changed: rec.Changed,
		attempt: isAttempt(rec),
		next:    make(chan struct{}),
	}
	if _, known := transitions[snap.State]; !known || snap.State == "" {
		return nil, fmt.Errorf("%w: state %q", ErrSealed, rec.State)
	}
	if len(rec.Body) == 0 {
		if !snap.State.Over() {
			return nil, fmt.Errorf("%w: a living session without a body", ErrSealed)
		}
		return snap, nil
	}
	plain, err := unseal(k, rec)
	if err != nil {
		return nil, err
	}
	var b body
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.UseNumber()
	if err := dec.Decode(&b); err != nil || b.State != snap.State {
		return nil, fmt.Errorf("%w: its state was changed", ErrSealed)
	}
	if (snap.State == Pending) != (b.Login != nil) || (b.Identity == nil) == (snap.State == Approved || snap.State == Active || snap.State == Superseded) {
		return nil, fmt.Errorf("%w: not all of it is there", ErrSealed)
	}
	return snap, snap.fill(&b)
}

func (snap *Snapshot) fill(b *body) error {
	snap.Expires, snap.idle, snap.lifetime, snap.used, snap.from = b.Expires, b.Idle, b.Life, b.Used, b.From
	snap.Presented = b.Sent
	if b.Successor != "" {
		snap.successor = Key{secret.String(b.Successor)}
	}
	if b.Login != nil {
		login := b.Login.login()
		if login.Expires.IsZero() { // written by a version that renewed no codes
			login.Issued, login.Expires = snap.Changed, b.Expires
		}
		snap.Login, snap.Params, snap.Renewals, snap.confirm = &login, b.Params, b.Renewals, b.Confirm
		for _, earlier := range b.Earlier {
			snap.Earlier = append(snap.Earlier, earlier.login())
		}
	}
	if id := b.Identity; id != nil {
		claims := map[string]any{}
		dec := json.NewDecoder(bytes.NewReader(id.Claims))
		dec.UseNumber()
		if err := dec.Decode(&claims); err != nil {
			return fmt.Errorf("%w: claims", ErrSealed)
		}
		snap.Identity = &Identity{
			Issuer: id.Issuer, Subject: id.Subject, SessionID: id.SID, Claims: claims,
			AccessToken: secret.String(id.AccessToken), RefreshToken: secret.String(id.RefreshToken),
			IDToken: secret.String(id.IDToken), Since: id.Since,
			Asked: id.Asked, TokensSince: id.TokensSince, TokensUntil: id.TokensUntil,
		}
	}
	return nil
}

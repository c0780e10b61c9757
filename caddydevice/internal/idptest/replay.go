// This file holds what a replay is: one identity provider's behaviour on the
// wire, written down as data.

package idptest

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Endpoint is what a request to an identity provider is about. Polls and
// refreshes go to the same address.
type Endpoint string

// The endpoints of a replay. Elsewhere is every address that it does not have.
const (
	Discovery  Endpoint = "discovery"
	Keys       Endpoint = "keys"
	DeviceCode Endpoint = "device"
	Poll       Endpoint = "poll"
	Refresh    Endpoint = "refresh"
	Revocation Endpoint = "revocation"
	UserInfo   Endpoint = "userinfo"
	Elsewhere  Endpoint = "elsewhere"
)

// Replay is an identity provider that answers as a certain product does. It is
// an http.RoundTripper that needs no socket, and so runs inside a
// testing/synctest bubble. Its fields may be changed before it is first asked.
//
// Bodies are texts as the product writes them, in which $name stands for what
// differs from answer to answer: client_id, device_code, user_code,
// access_token, refresh_token, id_token, at_hash, scope, nonce; now, exp and
// auth_time in Unix seconds, and expDate. A member that comes out as "" is left out.
type Replay struct {
	Name         string
	Issuer       string
	ClientID     string
	ClientSecret string // "" for a public client

	// Document is the discovery document, and where it is; "" for none.
	Document Page
	// Where the endpoints are; "" for one that there is not.
	Where Addresses

	Auth Auth
	// Refusals are looked at in their order, before anything else.
	Refusals []Refusal
	Codes    Codes
	Polls    Polls
	Tokens   Tokens
	// Refreshes are the answers to refresh_token requests.
	Refreshes Refreshes
	// Claims is the answer of the userinfo endpoint.
	Claims string
	// RevokeBy is the method of the revocation endpoint. Default: POST.
	RevokeBy string
	// BadGrant answers a grant_type that is not known there.
	BadGrant Reply
	// CamelCase is set where names of a token request may be in it too, and the
	// request may be JSON (TokenIDP).
	CamelCase bool

	mu        sync.Mutex
	codes     []*code
	grants    []*grant
	scripts   map[Endpoint][]Reply
	exchanges []Exchange
	issued    int // tokens so far
	rotations int // of the signing key
}

// Page is a document that anybody can read.
type Page struct{ URL, Body string }

// Addresses are absolute URLs.
type Addresses struct{ Device, Token, Keys, UserInfo, Revocation string }

// Auth is how the client authenticates.
type Auth struct {
	// At is where that is asked for.
	At []Endpoint
	// Methods are those of a client with a secret: basic, post, none. Several
	// at once are refused by none of the products but where Refusals say so.
	Methods []string
	// Decoded is set where the parts of Basic are percent-decoded (RFC 6749
	// §2.3.1); some products do not.
	Decoded bool
	// Bad answers whoever fails.
	Bad Reply
	// Unwanted answers a public client that sends a secret; without a status
	// it is ignored.
	Unwanted Reply
}

// Codes is how a sign-in begins (RFC 8628 §3.2).
type Codes struct {
	Answer string
	// Code is the first device code; the later ones have their number behind
	// it. UserCodes come in turn.
	Code      string
	UserCodes []string
	// Life is how long a code lives at the server, whatever Answer says.
	Life time.Duration
	// Sound says whether a person could approve at all what this request asked
	// for; nil is always.
	Sound Condition
	// PerHour bounds the requests of an hour, 0 for no bound; TooMany answers
	// those above.
	PerHour int
	TooMany Reply
}

// Polls are the answers to device access token requests (RFC 8628 §3.5).
type Polls struct {
	// Grant is the grant_type. Default: RFC 8628's.
	Grant string
	// Order are the checks of a poll, in the order in which the product makes
	// them.
	Order []Check
	Pace  Pace

	Pending, SlowDown, Denied, Expired Reply
	// Unknown is for a code that is not known, or not any more; Reused for one
	// whose tokens were handed out.
	Unknown, Reused Reply

	// Once is set where a denial and an expiry are told once: after that the
	// code is unknown.
	Once bool
	// Kept is for how long after its life a code is known; 0 is for ever.
	Kept time.Duration
	// Undeniable is set where a person's no leaves the code as it was.
	Undeniable bool
	// SameAgain is set where a code whose tokens were handed out gets the same
	// answer again; ReuseRevokes where the tokens are taken back for it.
	SameAgain, ReuseRevokes bool
	// PolledFirst is set where nobody can approve a code before its first poll.
	PolledFirst bool
	// PKCE is set where a challenge in the device authorization request is kept
	// and checked (RFC 7636).
	PKCE bool
}

// Pace is how a product defends itself against polls that come too fast.
type Pace struct {
	// Every is the least gap; 0 where the product does not look.
	Every time.Duration
	// Strict is set where a poll at exactly that gap is too early.
	Strict bool
	// Moves is set where a poll that was too early counts as the last one: who
	// polls too fast steadily is never answered.
	Moves bool
	// FromStart is set where the first poll is measured from the device
	// authorization on.
	FromStart bool
	// Adds is what each poll that was too early adds to Every; Forgives takes
	// that back after a poll that was not.
	Adds     time.Duration
	Forgives bool
}

// Tokens are what an approval brings (RFC 6749 §5.1).
type Tokens struct {
	Answer string
	Header http.Header // beside Content-Type
	Life   time.Duration

	// Access is the beginning of an opaque access token. AccessClaims make it
	// a JWT instead; AccessType is the typ of that one's header.
	Access       string
	AccessClaims string
	AccessType   string

	// IDClaims are those of the ID token; "" where there is none.
	IDClaims string
	// IDAlways is set where it comes without the scope openid too.
	IDAlways bool
	// ByScope are claims that are in both tokens only where a scope was asked
	// for: text that goes in front of the closing brace.
	ByScope map[string]string

	// RefreshScopes: one of them must be asked for, or there is no refresh
	// token; nil is always. NoRefresh is never.
	RefreshScopes []string
	NoRefresh     bool

	Key Key
}

// Key is what tokens are signed with.
type Key struct {
	// Algorithm. Default: RS256. HS256 is keyed with the client secret.
	Algorithm jose.SignatureAlgorithm
	// PublishedID is the kid of the key set, TokenID that of tokens; "" for
	// none.
	PublishedID, TokenID string
	// Document replaces the key set.
	Document string
	// Encrypts is set where the signed token is encrypted as well (RFC 7516).
	Encrypts bool
}

// Refreshes are the answers to refresh requests (RFC 6749 §6).
type Refreshes struct {
	// Answer is a success. Default: Tokens.Answer.
	Answer string
	// Rotates is set where the token that was used is none any more. Spent
	// answers it, and a token that was never known; with SpentRevokes it costs
	// the grant.
	Rotates      bool
	Spent        Reply
	SpentRevokes bool
}

// Refusal is an answer to requests that a product does not like.
type Refusal struct {
	At   Endpoint
	If   Condition
	With Reply
}

// Condition is something that can be said of a request.
type Condition func(*Replay, *Request) bool

// Check is one look at a code that is polled: an answer, or nil where the next
// check decides.
type Check func(*Replay, *code, time.Time) *Reply

// Raw is a reply in a product's own words.
func Raw(status int, body string) Reply {
	return Reply{Status: status, Body: body, Header: http.Header{"Content-Type": {"application/json"}}}
}

// refused is the usual error answer of a product (RFC 6749 §5.2).
func refused(status int, word, description string) Reply {
	return JSON(status, map[string]string{"error": word, "error_description": description})
}

// without takes a piece out of a document, which has to be there.
func without(document, piece string) string {
	before, after, found := strings.Cut(document, piece)
	if !found {
		panic("no " + piece + " in " + document)
	}
	return before + after
}

// deviceGrant is RFC 8628's grant_type.
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// Listed names the device endpoint in the discovery document, where that is not
// known for sure and left out therefore.
func (r *Replay) Listed() *Replay {
	r.Name += ", device endpoint listed"
	r.Document.Body = `{"device_authorization_endpoint":"` + r.Where.Device + `",` + without(r.Document.Body, "{")
	return r
}

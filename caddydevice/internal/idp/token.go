// This file holds what all token requests share: the request, and how its
// answer is read (RFC 6749 §5).

package idp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddydevice/device-auth/caddydevice/internal/secret"
)

type tokenAnswer struct {
	AccessToken      string          `json:"access_token"`
	TokenType        string          `json:"token_type"`
	RefreshToken     string          `json:"refresh_token"`
	IDToken          string          `json:"id_token"`
	ExpiresIn        seconds         `json:"expires_in"`
	Interval         seconds         `json:"interval"`
	Error            json.RawMessage `json:"error"`
	ErrorDescription json.RawMessage `json:"error_description"`
}

// unreadable is the word of an error member that is no string.
const unreadable = "unreadable error"

// errorWord reads an error member: "" where there is none, and some word where
// there is one that is no string, since it is an error all the same.
func errorWord(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var word string
	if json.Unmarshal(raw, &word) != nil || word == "" {
		return unreadable
	}
	return word
}

// askForTokens makes one token request. It never fails: what happened is the
// answer's Outcome.
func (c *Client) askForTokens(ctx context.Context, via *http.Client, md *metadata, form url.Values, as meaning) Answer {
	rep, err := c.postForm(ctx, via, md, md.TokenEndpoint, form)
	if err != nil {
		return Answer{Outcome: Transient, Sent: rep.sent, Err: fmt.Errorf("token request: %w", err)}
	}
	rep.body = c.dialect.plain(rep.body)
	ans := readToken(rep, as)
	if c.dialect.noExpiresIn {
		ans.Tokens.ExpiresIn = 0
	}
	ans.RetryAfter = rep.retryAfter
	return ans
}

// readToken interprets an answer of the token endpoint. The error member
// decides; the status only where there is none (RFC 6749 §5.2 as deployed:
// pending comes with 200, 400, 403, 428 and 500).
func readToken(rep reply, as meaning) Answer {
	var t tokenAnswer
	if err := rep.object(&t); err != nil {
		return wordless(rep, as, errors.New(rep.words(err.Error())))
	}
	if word := errorWord(t.Error); word != "" {
		if word == unreadable && rep.status == http.StatusUnauthorized {
			word = "invalid_client" // all that this status can mean (RFC 6749 §5.2)
		}
		return Answer{
			Outcome: as.ofWord(word, rep.status), Interval: time.Duration(t.Interval),
			Err: &RefusedError{
				Reason: fmt.Sprintf("status %d: %s: %s", rep.status, rep.words(word), rep.words(string(t.ErrorDescription))),
				Status: rep.status, Word: word,
			},
		}
	}
	switch {
	case !rep.ok():
		return wordless(rep, as, fmt.Errorf("status %d without an error member", rep.status))
	case t.AccessToken == "":
		return wordless(rep, as, fmt.Errorf("status %d without an access token", rep.status))
	case !strings.EqualFold(t.TokenType, "Bearer"):
		err := fmt.Errorf("token_type %q is not supported, only Bearer (RFC 6749 §7.1)", rep.words(t.TokenType))
		return Answer{Outcome: as.unclear, Sent: as.unclear == Transient, Err: err}
	}
	return Answer{Outcome: Approved, Tokens: Tokens{
		Access:    secret.String(t.AccessToken),
		Refresh:   secret.String(t.RefreshToken),
		ID:        secret.String(t.IDToken),
		ExpiresIn: time.Duration(t.ExpiresIn),
		Asked:     rep.asked,
		Received:  time.Now(),
	}}
}

// wordless is an answer without tokens and without a word. 401 and 403 are
// about this client (RFC 6749 §5.2) and will stay as they are; all others come
// from something in between and may pass. Behind a 2xx there may have been
// tokens, and behind a 504 (RFC 9110 §15.6.5) an answer that came too late.
func wordless(rep reply, as meaning, err error) Answer {
	if outcome, known := as.statuses[rep.status]; known {
		return Answer{Outcome: outcome, Err: err}
	}
	if rep.status == http.StatusUnauthorized || rep.status == http.StatusForbidden {
		return Answer{Outcome: as.unclear, Err: err}
	}
	return Answer{Outcome: Transient, Sent: rep.ok() || rep.status == http.StatusGatewayTimeout, Err: err}
}

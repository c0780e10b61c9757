// This file holds the JSON form, for programs. Names are RFC 8628 §3.2's and
// RFC 6749 §5.2's; descriptions are in English, since that one wants ASCII.

package page

import (
	"encoding/json"
	"time"
)

// errorWords are the error members of the JSON form, from RFC 6749, RFC 6750
// and RFC 8628 where those have a word.
var errorWords = map[Status]string{
	Pending:     "authorization_pending",
	Approved:    "confirmation_required",
	Denied:      "access_denied",
	Expired:     "expired_token",
	Failed:      "server_error",
	Ended:       "session_ended",
	Superseded:  "session_superseded",
	Forbidden:   "insufficient_permission",
	Limited:     "slow_down",
	Unavailable: "temporarily_unavailable",
	Required:    "login_required",
	Invalid:     "invalid_request",
}

type jsonAnswer struct {
	Status      Status `json:"status"`
	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
	Reason      string `json:"reason,omitempty"`

	UserCode                string `json:"user_code,omitempty"`
	VerificationURI         string `json:"verification_uri,omitempty"`
	VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
	ExpiresIn               *int   `json:"expires_in,omitempty"`
	Interval                int    `json:"interval,omitempty"`
	Session                 string `json:"session,omitempty"`
	WaitURI                 string `json:"wait_uri,omitempty"`
	QRURI                   string `json:"qr_uri,omitempty"`
	LoginURI                string `json:"login_uri,omitempty"`
	ConfirmURI              string `json:"confirm_uri,omitempty"`
	EndSessionURI           string `json:"end_session_uri,omitempty"`

	User    string `json:"user,omitempty"`
	Subject string `json:"sub,omitempty"`
	Since   string `json:"since,omitempty"`
	Until   string `json:"until,omitempty"`
}

func (a *Answer) json() ([]byte, error) {
	j := jsonAnswer{Status: a.Status, Error: errorWords[a.Status], LoginURI: a.LoginURI, ConfirmURI: a.ConfirmURI, EndSessionURI: a.EndSession}
	if j.Error != "" {
		m := english.message(a.Status, a.Detail)
		j.Description, j.Reason = m.Text+" "+m.Next, a.Detail
	}
	if a.Before != "" {
		j.Reason = a.BeforeDetail
		j.Description = english.message(a.Before, a.BeforeDetail).Text + " " + j.Description
	}
	if l := a.Login; l != nil {
		left := max(0, int(time.Until(l.Expires)/time.Second))
		j.ExpiresIn, j.Interval = &left, int((l.Interval+time.Second-1)/time.Second)
		j.UserCode, j.VerificationURI, j.VerificationURIComplete = l.UserCode, l.VerificationURI, l.VerificationURIComplete
		j.Session, j.WaitURI, j.QRURI, j.LoginURI = l.Session, l.WaitURI, l.QRURI, ""
	}
	if u := a.User; u != nil {
		j.User, j.Subject = u.Name, u.Subject
		if !u.Until.IsZero() {
			j.Until = u.Until.UTC().Format(time.RFC3339)
		}
		if !u.Since.IsZero() {
			j.Since = u.Since.UTC().Format(time.RFC3339)
		}
	}
	b, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// This file holds every sentence that a person reads, by status and detail:
// what happened, and what to do next.

package page

// message is one outcome in words.
type message struct {
	title string
	// text says what happened; next what to do about it.
	text, next string
}

// errorWords are the error members of the JSON form, from RFC 6749, RFC 6750
// and RFC 8628 where those have a word.
var errorWords = map[Status]string{
	Pending:     "authorization_pending",
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

const (
	signInAgain = "Sign in again to go on."
	tryLater    = "Try again in a moment."
	// endSessionText goes before the address of the identity provider's own
	// sign-out.
	endSessionText = "You may still be signed in at the identity provider. Sign out there as well at"
)

// messages, by status and detail. The entry without a detail is for details
// that have none of their own.
var messages = map[Status]map[string]message{
	Pending: {
		"": {"Sign in", "This sign-in waits for your approval.", "Open the address on a phone or a computer, enter the code and approve."},
		"body": {
			"Sign in", "This sign-in waits for your approval, and a request with a body cannot wait for it (Prefer: wait).",
			"Wait for the approval with a GET of wait_uri, then send the request again.",
		},
		"away": {
			"Sign in", "The identity provider does not answer at the moment, so this sign-in may take longer.",
			"The code stays good, and it is asked again and again.",
		},
	},
	Active: {
		"": {"Signed in", "You are signed in.", ""},
		"navigate": {
			"Signed in", "The sign-in was approved, but this browser has not finished it.",
			"Load this page in the browser window itself to go on.",
		},
	},
	Denied: {
		"": {"Sign-in declined", "The sign-in was declined.", "If you want to sign in, start again and approve it."},
		"wrong_account": {
			"Wrong account", "This sign-in was approved with an account that it is not meant for, so nobody was signed in.",
			"Start again, and approve it with the right account; sign out at the identity provider first if it does not ask which.",
		},
	},
	Expired: {
		"": {"Code expired", "Nobody approved the sign-in in time, so its code has expired.", "Start again to get a new code."},
	},
	Failed: {
		"": {
			"Sign-in failed", "The identity provider did not let this sign-in finish.",
			"Start again; if it fails again, ask the operator of this site to look at its log.",
		},
		"setup": {
			"Sign-in failed", "The identity provider refused to start a sign-in for this site.",
			"Ask the operator of this site to look at its log.",
		},
		"forgotten": {
			"Sign-in lost", "The identity provider no longer knows this sign-in: it, or this gateway, was restarted while it was under way.",
			"Start again; if it fails again, ask the operator of this site to look at its log.",
		},
		"tokens": {
			"Sign-in failed", "The identity provider's answer could not be trusted, so nobody was signed in.",
			"Ask the operator of this site to look at its log.",
		},
	},
	Ended: {
		"":              {"Signed out", "This sign-in is over.", signInAgain},
		"signed_out":    {"Signed out", "You have signed out.", signInAgain},
		"token_expired": {"Sign-in over", "The identity provider's approval has run out.", signInAgain},
		"refused":       {"Sign-in over", "The identity provider no longer renews this sign-in: it was taken back there, or has run out.", signInAgain},
		"refresh_lost": {
			"Sign-in over", "The identity provider's renewal of this sign-in was lost on its way, by a restart or a broken connection.", signInAgain,
		},
		"other_identity": {"Sign-in over", "The identity provider renewed this sign-in for somebody else, so it was ended.", signInAgain},
		"tokens":         {"Sign-in over", "The identity provider's renewal of this sign-in could not be trusted.", signInAgain},
		"logged_out":     {"Signed out", "This sign-in was ended at the identity provider.", signInAgain},
		"revoked":        {"Sign-in ended", "An operator of this site has ended this sign-in.", signInAgain},
		"idle":           {"Sign-in over", "This sign-in was not used for too long.", signInAgain},
		"lifetime":       {"Sign-in over", "This sign-in has reached its longest life.", signInAgain},
		"crowded":        {"Sign-in given up", "Too many sign-ins were under way, so this one, which nobody had asked about for a while, was given up.", "Start again to get a new code."},
		"replaced":       {"Sign-in replaced", "A new sign-in was started in place of this one.", "Use the new code."},
	},
	Superseded: {
		"": {"Signed in elsewhere", "Another window of this browser has finished this sign-in.", "Load this page again."},
	},
	Forbidden: {
		"": {"Not allowed", "You are signed in, but you may not see this.", "Ask the operator of this site for access, or sign in as someone else."},
		"identity_too_large": {
			"Not allowed", "You are signed in, but what the identity provider says about you does not fit into a request.",
			"Ask the operator of this site: upstream_headers names a claim that is too large.",
		},
		"methods": {
			"Not allowed", "This sign-in may not make a request of this kind: it is for reading only, or the like.",
			"Ask the operator of this site which methods it may use.",
		},
		"cross_origin": {"Refused", "This request comes from a page of another site.", "Open this site itself and try from there."},
		"start":        {"Not allowed", "A sign-in cannot be started from here.", "Ask the operator of this site from where it can."},
	},
	Limited: {
		"":        {"Too many sign-ins", "Too many sign-ins were started a moment ago.", tryLater},
		"pending": {"Too many sign-ins", "Too many sign-ins are under way.", tryLater},
		"waits":   {"Too many waits", "Too many requests wait for a sign-in already.", tryLater},
	},
	Unavailable: {
		"":        {"Not available", "The identity provider cannot be reached, so nobody can sign in right now.", tryLater},
		"refresh": {"Not available", "This sign-in has to be renewed, and the identity provider does not answer. Nobody is signed out by this.", tryLater},
		"keys":    {"Not available", "The identity provider's keys cannot be reached, so an access token cannot be checked right now.", tryLater},
		"store":   {"Not available", "The place where sign-ins are kept cannot be reached. Nobody is signed out by this.", tryLater},
	},
	Required: {
		"":        {"Sign in", "You have to sign in to see this.", "Start a sign-in."},
		"unknown": {"Sign in", "This session key is not known here, or no longer.", "Start a new sign-in."},
		"token":   {"Sign in", "This access token is not good here, or no longer.", "Get a new one for this site, or start a sign-in."},
		"cookie": {
			"No cookie", "This browser did not keep the sign-in's cookie, so it cannot be recognised.",
			"Allow cookies for this site; a private window or a kiosk profile may drop them. Then start again.",
		},
	},
	Invalid: {
		"":              {"Bad request", "This request cannot be understood.", "Check the address."},
		"not_found":     {"Not found", "There is nothing here.", "Check the address."},
		"no_login":      {"Not found", "No sign-in is under way here.", "Start a sign-in."},
		"method":        {"Wrong method", "This address does not take that method.", "See the Allow header."},
		"to":            {"Bad request", "The parameter to must be a path of this site, like /reports.", "Check the link that brought you here."},
		"form":          {"Bad request", "The form that was sent cannot be read.", "Go back and try again."},
		"target":        {"Bad request", "This request's target is no path.", "Ask for a path, like /reports."},
		"parameter":     {"Bad request", "A parameter of this request has a value that it cannot have.", "Check the address."},
		"param":         {"Bad request", "Part of this request would be passed on to the identity provider, and is too long for that or has characters that it cannot have.", "Make it shorter; or ask the operator of this site what it may be."},
		"format":        {"Bad request", "There is no such format.", "Use curl, netrc or header."},
		"browser_key":   {"Bad request", "A browser's session key is never printed.", "Sign in from a terminal: its key can be."},
		"token_logout":  {"Bad request", "This request has an access token of its own, and no session that could be ended here.", "Let it run out, or revoke it at the identity provider."},
		"logout_token":  {"Bad request", "This is no logout token for this site.", "Send one logout_token of the identity provider, as a form."},
		"unsupported":   {"Not supported", "This is not supported yet.", "Leave out what asks for it, or ask for application/json."},
		"authorization": {"Bad request", "This request has more than one Authorization header.", "Send one."},
		"host":          {"Bad request", "This host name is not one that this site answers for.", "Use the site's own name; its operator may have to set public_url."},
	},
}

// buttons are what the button says that starts a sign-in, where that is not
// "Sign in".
var buttons = map[Status]string{Forbidden: "Sign in as someone else"}

// message returns the words of a status and detail.
func messageOf(s Status, detail string) message {
	if m, ok := messages[s][detail]; ok {
		return m
	}
	return messages[s][""]
}

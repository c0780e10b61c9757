// This file holds the issuers where anyone can have an account: signing in
// there says who somebody is, and nothing about whether they belong here.

package caddydevice

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// openIssuer is a place where anyone can have an account.
type openIssuer struct {
	name string
	host string // exactly; with a dot before it, all hosts below
	// first are the first segments of the path that make it open; nil: any.
	first []string
}

// entraOpen are Entra's issuers that are not one tenant; the long one is that
// of personal accounts.
var entraOpen = []string{"common", "organizations", "consumers", "9188040d-6c67-4c5b-b112-36a304b66dad", "{tenantid}"}

var openIssuers = []openIssuer{
	{name: "GitHub", host: "github.com"},
	{name: "gitlab.com", host: "gitlab.com"},
	{name: "Codeberg", host: "codeberg.org"},
	{name: "Bitbucket", host: "bitbucket.org"},
	{name: "Google", host: "accounts.google.com"},
	{name: "Microsoft Entra ID without a tenant of its own", host: "login.microsoftonline.com", first: entraOpen},
	{name: "Microsoft Entra ID without a tenant of its own", host: "login.microsoftonline.us", first: entraOpen},
	{name: "Microsoft Entra ID without a tenant of its own", host: "login.partner.microsoftonline.cn", first: entraOpen},
	{name: "Microsoft Entra External ID", host: ".ciamlogin.com"},
	{name: "Azure AD B2C", host: ".b2clogin.com"},
	{name: "Microsoft", host: "login.live.com"},
	{name: "Auth0, which lets people sign up unless that is switched off", host: ".auth0.com"},
	{name: "Amazon", host: "www.amazon.com"},
	{name: "Apple", host: "appleid.apple.com"},
	{name: "Facebook", host: "www.facebook.com"},
	{name: "Facebook", host: "limited.facebook.com"},
	{name: "LinkedIn", host: "www.linkedin.com"},
	{name: "Slack", host: "slack.com"},
	{name: "Discord", host: "discord.com"},
	{name: "Twitch", host: "id.twitch.tv"},
	{name: "Yahoo", host: "api.login.yahoo.com"},
	{name: "LINE", host: "access.line.me"},
	{name: "Kakao", host: "kauth.kakao.com"},
	{name: "Salesforce", host: "login.salesforce.com"},
	{name: "Zoho", host: "accounts.zoho.com"},
}

// openTo names the place where anyone can have an account; "" where the issuer
// is none that is known to be one.
func openTo(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	for _, o := range openIssuers {
		if host != o.host && !(o.host[0] == '.' && strings.HasSuffix(host, o.host)) {
			continue
		}
		if o.first == nil || slices.Contains(o.first, strings.ToLower(first)) {
			return o.name
		}
	}
	return ""
}

// checkOpenIssuer refuses to let in everyone who has an account where anyone
// can have one, unless that is said on purpose. expected is whether the
// approval has to be somebody's in particular.
func (h *Handler) checkOpenIssuer(issuer string, expected bool) error {
	name := openTo(issuer)
	if name == "" || len(h.Require) > 0 || expected {
		return nil
	}
	return fmt.Errorf("issuer %q: anyone can have an account there (%s): add a line like `require email *@example.com`, or `require any` to let everyone in on purpose", issuer, name)
}

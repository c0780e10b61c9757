// This file holds the Caddyfile's lines about who gets in.

package caddydevice

import (
	"slices"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

var bearerBlock = block[*BearerConfig]{
	title: "bearer",
	lines: map[string]line[*BearerConfig]{
		"audience":         listLine("audience https://api.example.com", func(b *BearerConfig) *[]string { return &b.Audience }),
		"authorized_party": listLine("authorized_party my-cli", func(b *BearerConfig) *[]string { return &b.AuthorizedParty }),
		"issuer":           listLine("issuer https://idp.example.com", func(b *BearerConfig) *[]string { return &b.Issuer }),
	},
}

func init() { bearerBlock.register() }

func parseRequire(in input, h *Handler) error {
	return parseRule(in, &h.Require)
}

func parseExpect(in input, h *Handler) error {
	return parseRule(in, &h.Expect)
}

func parseRule(in input, rules *[]ClaimRule) error {
	*rules = append(*rules, ClaimRule{Claim: in.args[0], Values: in.args[1:]})
	if err := checkRules(in.name, *rules); err != nil {
		return in.WrapErr(err)
	}
	return nil
}

// parseBearer reads `bearer off`, or `bearer on { … }`.
func parseBearer(in input, h *Handler) error {
	const usage = "write `bearer off`, or `bearer on { … }` with audience or authorized_party in it"
	in.args = in.RemainingArgs()
	opens := opensBlock(in.Dispenser)
	switch {
	case slices.Equal(in.args, []string{"off"}) && !opens:
		return nil
	case !slices.Equal(in.args, []string{"on"}) || !opens:
		return in.Errf("bearer %s: %s", strings.Join(in.args, " "), usage)
	}
	h.Bearer = new(BearerConfig)
	if err := bearerBlock.parse(in.Dispenser, h.Bearer); err != nil {
		return err
	}
	if err := h.Bearer.check(); err != nil {
		return in.WrapErr(err)
	}
	return nil
}

func parseTrustedOrigins(in input, h *Handler) error {
	for _, origin := range in.args {
		if strings.Contains(origin, "{") {
			continue // checked when it is resolved
		}
		if _, err := parseOrigin(origin); err != nil {
			return in.Errf("trusted_origins %q: %w", origin, err)
		}
	}
	h.TrustedOrigins = in.args
	return nil
}

func parseMethods(in input, s *SessionConfig) error {
	if err := checkMethods(in.args); err != nil {
		return in.WrapErr(err)
	}
	s.Methods = in.args
	return nil
}

func parseAlgorithms(in input, h *Handler) error {
	for _, alg := range in.args {
		if err := idp.CheckAlgorithm(alg); err != nil {
			return in.Errf("algorithms %w", err)
		}
	}
	h.Algorithms = in.args
	return nil
}

// Package e2e tests the gateway from outside: a real Caddy process between
// real clients and a real OpenID provider. The parts are in internal/, and a
// test puts them together like this:
//
//	rec := record.Start(t)                                          // the issuer's address
//	idp := idpserver.Start(t, idpserver.Options{Issuer: rec.URL()}) // the provider behind it
//	rec.SetTarget(t, idp.URL())
//	up := upstream.Start(t)
//	g := gate.Start(t, gate.Options{Caddyfile: …, Env: map[string]string{
//		"ISSUER": rec.URL(), "SECRET": idp.Secret, "UPSTREAM": up.Addr(),
//	}})
//
// Then curl and browser ask at g.URL(), an idpserver.Person approves, and
// record and upstream tell what happened on both sides. Where it takes a real
// browser, chrome is one, for either side; E2E_SCREENSHOTS names a folder that
// keeps what it saw. In TestKeycloak the provider is a Keycloak, and pythoncli
// a client that brings its own tokens. The package's TestMain calls gate.Main.
package e2e

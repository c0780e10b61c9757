// This file holds the Caddyfile's global option: what sites share.

package caddydevice

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseGlobalOption reads what sites share.
//
//	device_auth {
//		store bolt [<path>]
//		limits {
//			pending 10000
//			starts  50 1s
//			waits   5000
//		}
//		provider <name> {                # any number of them
//			<the directive's lines about the identity provider>
//		}
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Err("device_auth is there twice among the global options: put all lines into one")
	}
	if d.NextArg() {
		return nil, d.Errf("device_auth: unexpected %q: as a global option it has a block and no arguments", d.Val())
	}
	app := new(App)
	if err := appBlock.parse(d, app); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "device_auth", Value: caddyconfig.JSON(app, nil)}, nil
}

var appBlock = block[*App]{
	title: "the global option device_auth",
	lines: map[string]line[*App]{
		"store":    {usage: "store bolt", raw: true, parse: func(in input, app *App) error { return parseStore(in.Dispenser, app) }},
		"limits":   {usage: "limits { … }", block: true, parse: parseAppLimits},
		"provider": {usage: "provider my-idp { … }", min: 1, max: 1, block: true, many: true, parse: parseProvider},
	},
}

var appLimitsBlock = block[*AppLimits]{
	title: "limits of the global option device_auth",
	lines: map[string]line[*AppLimits]{
		"pending": countLine("pending 10000", func(l *AppLimits) *int { return &l.Pending }),
		"starts":  rateLine("starts 50 1s", func(l *AppLimits) **Rate { return &l.Starts }),
		"waits":   countLine("waits 5000", func(l *AppLimits) *int { return &l.Waits }),
	},
}

func parseStore(d *caddyfile.Dispenser, app *App) error {
	if !d.NextArg() {
		return d.Err("store needs a name: bolt or memory")
	}
	name := d.Val()
	if name == "redis" {
		return d.Err("store redis is not supported yet: use bolt")
	}
	id := "device_auth.stores." + name
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("store %s is none that this Caddy has: use bolt or memory, or build Caddy with the module %s", name, id)
	}
	mod, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return err
	}
	app.StoreRaw = caddyconfig.JSONModuleObject(mod, "store", name, nil)
	return nil
}

func parseAppLimits(in input, app *App) error {
	app.Limits = new(AppLimits)
	return appLimitsBlock.parse(in.Dispenser, app.Limits)
}

// This file holds the command `caddy device-auth check`: whether people can sign
// in at the identity providers of a configuration, before anybody tries.

package caddydevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

const commandCheckLong = `
Asks each identity provider of a configuration for all that a sign-in needs:
discovery, clocks, keys, a code for a sign-in, the client's authentication,
refresh and revocation. Each finding is a line: ok, a note, or what is wrong and
what to do about it there. Caddy need not run, and nothing of it is started.

A check starts a sign-in at each provider that nobody is told of, asks once what
has become of it, and lets it run out.

--config
    The configuration. Default: the Caddyfile in this directory.
--provider
    Only one of several: its name in the configuration, or its issuer.
--try
    Then signs somebody in for real, here in the terminal, and shows what the
    identity provider says of them: all claims, the groups among those, the line
    require that each group would need, and which gates would let them in. They
    are signed out again.

The exit code is 0 only if people can sign in at all of them.

Example:

    $ caddy device-auth check --config Caddyfile --try
`

func addCheck(root *cobra.Command) {
	check := &cobra.Command{
		Use:   "check [--config <file>] [--adapter <name>] [--provider <name>|<issuer>] [--try]",
		Short: "Checks the identity providers of a configuration",
		Long:  commandCheckLong,
		Args:  cobra.NoArgs,
	}
	check.Flags().StringP("config", "c", "", "The configuration. Default: the Caddyfile in this directory")
	check.Flags().StringP("adapter", "a", "", "The configuration's adapter, if it is not JSON")
	check.Flags().String("provider", "", "Only this one: its name in the configuration, or its issuer")
	check.Flags().Bool("try", false, "Sign somebody in for real")
	// not Caddy's wrapper, which logs errors: the log is silent by then
	check.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		cmd.SilenceUsage = true
		return commandCheck(ctx, caddycmd.Flags{FlagSet: cmd.Flags()}, cmd.OutOrStdout())
	}
	root.AddCommand(check)
}

// checked is an identity provider of a configuration, and the gates before it.
type checked struct {
	name   string // in the configuration; "" where it has none
	cfg    idp.Config
	params []paramTemplate
	gates  []placedGate
}

func (c *checked) title() string {
	title := c.cfg.Issuer + " as " + c.cfg.ClientID
	if c.name != "" {
		title = c.name + ": " + title
	}
	return printable(title)
}

func commandCheck(ctx context.Context, fs caddycmd.Flags, out io.Writer) error {
	all, cleanup, err := providersOf(fs.String("config"), fs.String("adapter"))
	if err != nil {
		return err
	}
	defer cleanup()
	if all, err = choose(all, fs.String("provider")); err != nil {
		return err
	}
	if fs.Bool("try") && len(all) > 1 {
		return fmt.Errorf("--try signs in at one identity provider, and there are %d: say which with --provider", len(all))
	}
	bad := 0
	for _, c := range all {
		good, err := c.check(ctx, out)
		if err != nil {
			return err
		}
		if !good {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("people cannot sign in at %d of %d identity providers", bad, len(all))
	}
	if fs.Bool("try") {
		return all[0].try(ctx, out)
	}
	return nil
}

// check prints the findings about one, and reports whether people can sign in.
func (c *checked) check(ctx context.Context, out io.Writer) (good bool, err error) {
	client, err := idp.New(c.cfg)
	if err != nil {
		return false, err
	}
	defer client.Close()
	fmt.Fprintln(out, c.title())
	good = true
	for _, f := range client.Check(ctx, c.fixed()...) {
		fmt.Fprintf(out, "  %-5s  %s: %s\n", f.Level, f.About, printable(f.Text))
		good = good && f.Level != idp.Wrong
	}
	fmt.Fprintln(out)
	return good, ctx.Err()
}

// choose leaves the one that is asked for; all where none is.
func choose(all []*checked, wanted string) ([]*checked, error) {
	if wanted == "" {
		return all, nil
	}
	one := slices.DeleteFunc(slices.Clone(all), func(c *checked) bool { return c.name != wanted && c.cfg.Issuer != wanted })
	if len(one) == 0 {
		var titles []string
		for _, c := range all {
			titles = append(titles, c.title())
		}
		return nil, fmt.Errorf("--provider %q is none of this configuration's: %s", wanted, strings.Join(titles, "; "))
	}
	return one, nil
}

// silent keeps what a configuration logs while it is read out of the findings.
var silent = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
	caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
}}

// providersOf reads a configuration as Caddy does, without starting anything.
func providersOf(file, adapter string) (all []*checked, cleanup func(), err error) {
	raw, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, nil, err
	}
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(raw, &config); err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", used, err)
	}
	apps := config.AppsRaw
	config.AppsRaw, config.Logging, config.Admin = caddy.ModuleMap{}, silent, nil
	base, err := caddy.ProvisionContext(&config)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := caddy.NewContext(base)
	config.AppsRaw = apps // from here on, so that the apps end with this context
	all, err = providersIn(ctx)
	if err == nil && len(all) == 0 {
		err = errors.New("there is no device_auth in this configuration: say which one with --config")
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return all, cancel, nil
}

// providersIn are those of the gates, and those that are only named.
func providersIn(ctx caddy.Context) ([]*checked, error) {
	var all []*checked
	httpApp, err := ctx.AppIfConfigured("http")
	switch {
	case err == nil:
		all = providersOfGates(allGates(httpApp.(*caddyhttp.App)))
	case !errors.Is(err, caddy.ErrNotConfigured):
		return nil, err
	}
	app, err := ctx.AppIfConfigured("device_auth")
	switch {
	case errors.Is(err, caddy.ErrNotConfigured):
		return all, nil
	case err != nil:
		return nil, err
	}
	named := app.(*App).named
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !slices.ContainsFunc(all, func(c *checked) bool { return c.name == name }) {
			all = append(all, &checked{name: name, cfg: named[name].Config, params: named[name].params})
		}
	}
	return all, nil
}

func providersOfGates(gates []placedGate) (all []*checked) {
	for _, g := range gates {
		i := slices.IndexFunc(all, func(c *checked) bool {
			return c.cfg.Issuer == g.resolved.Issuer && c.cfg.ClientID == g.resolved.ClientID
		})
		if i < 0 {
			i = len(all)
			all = append(all, &checked{name: g.ProviderName, cfg: g.resolved, params: g.params})
		}
		all[i].gates = append(all[i].gates, g)
	}
	return all
}

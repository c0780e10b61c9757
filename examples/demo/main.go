// Command demo shows device sign-in with Caddy on one machine, with one command:
// it starts Caddy with the device_auth handler, an identity provider and an
// upstream, all on loopback, and says what to type.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

//go:embed Caddyfile
var caddyfileText string

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, caddyfileText, os.Args[1:], os.Stdout, os.Stderr))
}

// exitInterrupted is what shells report for a program that Ctrl-C ended.
const exitInterrupted = 130

// ports are where the three parts listen.
type ports struct{ gate, idp, upstream int }

// The ports that the Caddyfile is written with.
var defaultPorts = ports{gate: 9080, idp: 9081, upstream: 9082}

// run is the program; its result is the exit code.
func run(ctx context.Context, caddyfile string, args []string, out, errOut io.Writer) int {
	p, err := parseFlags(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	d, err := start(p, withPorts(caddyfile, p)) //nolint:contextcheck // what ends the demo must not cut its ending short
	if err != nil {
		fmt.Fprintln(errOut, "demo:", err)
		return 1
	}
	welcome(out, p)

	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nStopping.")
	case err = <-d.failed:
		fmt.Fprintln(errOut, "demo:", err)
	}
	if stopErr := d.stop(); stopErr != nil { //nolint:contextcheck // the same
		fmt.Fprintln(errOut, "demo:", stopErr)
		return 1
	}
	if err != nil {
		return 1
	}
	return 0
}

func parseFlags(args []string, errOut io.Writer) (ports, error) {
	p := defaultPorts
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(errOut)
	port := func(to *int, name, what string) {
		flags.Func(name, fmt.Sprintf("`port` of %s on loopback (default %d)", what, *to), func(s string) error {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return errors.New("a port is a number from 1 to 65535")
			}
			*to = int(n)
			return nil
		})
	}
	port(&p.gate, "gate", "the gate, where you go")
	port(&p.idp, "idp", "the identity provider")
	port(&p.upstream, "upstream", "the upstream")
	return p, flags.Parse(args)
}

// withPorts puts other ports into the Caddyfile, in one pass, so that two parts
// can also change places.
func withPorts(caddyfile string, p ports) string {
	colon := func(port int) string { return ":" + strconv.Itoa(port) }
	return strings.NewReplacer(
		colon(defaultPorts.gate), colon(p.gate),
		colon(defaultPorts.idp), colon(p.idp),
		colon(defaultPorts.upstream), colon(p.upstream),
	).Replace(caddyfile)
}

func welcome(out io.Writer, p ports) {
	fmt.Fprintf(out, `The demo is running. Three things to try:

1. In another terminal:

     curl http://localhost:%[1]d/

   It prints an address and a code. Open the address in a browser on this
   machine, sign in and approve; then type the command that it printed.

2. In a browser, as a kiosk would:

     http://localhost:%[1]d/

   Open the address that it shows in another window, and watch the first one.

3. Sign in as    alice   with password   alice-demo
         or as   bob     with password   bob-demo

   Each gets through under their own name; see what the upstream is told.

Ctrl-C stops everything.
`, p.gate)
}

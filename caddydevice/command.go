// This file holds the command `caddy device-auth`: sessions on a command line,
// by the admin endpoint of a Caddy that runs.

package caddydevice

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "device-auth",
		Short:     "Checks identity providers, and shows and ends sign-ins",
		Long:      "Checks the identity providers of device_auth, and shows and ends the sign-ins that its handlers in a running Caddy keep.",
		CobraFunc: deviceAuthCommand,
	})
}

const commandListLong = `
Lists sessions: sign-ins under way, people who are signed in, and for a day
what has become of both. The most that is printed is --limit of them, in the
order of their ids.

--state
    Only those in a state: pending, active, denied, expired, failed, ended or
    superseded.
--subject
    Only those of a person, by the sub of their identity provider.
--provider
    Only those of an identity provider: its issuer, or "<issuer> <client id>".

Example:

    $ caddy device-auth sessions list --state active
`

const commandEndLong = `
Ends one session by its id or the beginning of it, at least 8 characters; or
those of a person with --subject; or all with --all. The last two also end
sign-ins under way, and --provider restricts them to an identity provider: its
issuer, or "<issuer> <client id>". The next request of each client is refused.

Examples:

    $ caddy device-auth sessions end 6b1f20ce9a44d013
    $ caddy device-auth sessions end --subject alice --provider https://idp.example.com
`

var commandAdminLong = `
The running Caddy is asked at its admin endpoint: --address says where that is,
or --config the configuration that does. Without either it is the default,
` + caddy.DefaultAdminListen + `.
`

func deviceAuthCommand(root *cobra.Command) {
	addCheck(root)

	sessions := &cobra.Command{Use: "sessions", Short: "Shows and ends sessions"}
	root.AddCommand(sessions)

	list := &cobra.Command{
		Use:   "list [--state <state>] [--subject <sub>] [--provider <issuer>] [--limit <n>] [--json]",
		Short: "Lists sessions",
		Long:  commandListLong + commandAdminLong,
		Args:  cobra.NoArgs,
	}
	list.Flags().String("state", "", "Only sessions in this state")
	list.Flags().Int("limit", defaultPage, "The most sessions to print")
	list.Flags().Bool("json", false, "Print JSON, as the admin endpoint answers")
	addCommand(sessions, list, commandList)

	end := &cobra.Command{
		Use:   "end <id> | --subject <sub> [--provider <issuer>] | --all [--provider <issuer>]",
		Short: "Ends sessions",
		Long:  commandEndLong + commandAdminLong,
		Args:  cobra.MaximumNArgs(1),
	}
	end.Flags().Bool("all", false, "End all sessions")
	addCommand(sessions, end, commandEnd)
}

// addCommand adds a command with the flags that all have.
func addCommand(parent, cmd *cobra.Command, run func(fs caddycmd.Flags, out io.Writer) error) {
	cmd.Flags().String("subject", "", "Only sessions of this person, by the identity provider's sub")
	cmd.Flags().String("provider", "", `Only sessions of this identity provider: "<issuer>" or "<issuer> <client id>"`)
	cmd.Flags().String("address", "", "The admin endpoint's address")
	cmd.Flags().StringP("config", "c", "", "The configuration that names the admin endpoint")
	cmd.Flags().StringP("adapter", "a", "", "The configuration's adapter, if it is not JSON")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fs caddycmd.Flags) (int, error) {
		if err := run(fs, cmd.OutOrStdout()); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	})
	parent.AddCommand(cmd)
}

// commandList follows the pages until the limit.
func commandList(fs caddycmd.Flags, out io.Writer) error {
	limit := fs.Int("limit")
	if limit < 1 {
		return fmt.Errorf("--limit %d: must be at least 1", limit)
	}
	admin, err := adminAddress(fs)
	if err != nil {
		return err
	}
	all := sessionPage{Sessions: []shownSession{}}
	for more := true; more; more = all.Next != "" && len(all.Sessions) < limit {
		query := flagsGiven(fs, "state", "subject", "provider")
		query.Set("limit", strconv.Itoa(min(limit-len(all.Sessions), mostPage)))
		if all.Next != "" {
			query.Set("after", all.Next)
		}
		var page sessionPage
		if err := askAdmin(admin, http.MethodGet, adminPath+"?"+query.Encode(), &page); err != nil {
			return err
		}
		all.Sessions, all.Next = append(all.Sessions, page.Sessions...), page.Next
	}
	if fs.Bool("json") {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	return printSessions(out, all)
}

// shortID is how much of an id is printed: more than `end` needs, and little
// enough to copy.
const shortID = 16

func printSessions(out io.Writer, all sessionPage) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tREASON\tKIND\tSITE\tSUBJECT\tCREATED\tUNTIL\tISSUER\tCLIENT")
	for _, s := range all.Sessions {
		until := "-"
		if !s.Until.IsZero() {
			until = s.Until.Format(time.RFC3339)
		}
		cells := []string{
			s.ID[:min(shortID, len(s.ID))], string(s.State), string(s.Reason), string(s.Kind), s.Site, s.Subject,
			s.Created.Format(time.RFC3339), until, s.Issuer, s.ClientID,
		}
		for i, cell := range cells {
			cells[i] = printable(cmp.Or(cell, "-"))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if all.Next != "" {
		fmt.Fprintf(table, "There may be more: --limit %d does not show them.\n", len(all.Sessions))
	}
	return table.Flush()
}

// printable keeps what an identity provider wrote from steering a terminal, or
// from making two columns of one.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func commandEnd(fs caddycmd.Flags, out io.Writer) error {
	id, query := fs.Arg(0), flagsGiven(fs, "subject", "provider")
	if fs.Bool("all") {
		query.Set("all", "true")
	}
	uri := adminPath + "?" + query.Encode()
	switch {
	case id != "" && len(query) > 0:
		return errors.New("an id says which session is meant: leave --subject, --provider and --all out")
	case id != "":
		uri = adminPath + "/" + url.PathEscape(id)
	case !query.Has("subject") && !query.Has("all"):
		return errors.New("say which sessions are to end: an id, --subject or --all")
	}
	admin, err := adminAddress(fs)
	if err != nil {
		return err
	}
	answer := struct{ Ended int }{1} // there is no answer about one
	if err := askAdmin(admin, http.MethodDelete, uri, &answer); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "ended: %d\n", answer.Ended)
	return err
}

// flagsGiven are the flags that are there, also empty ones: a script's variable that
// is not set must not end more than was meant.
func flagsGiven(fs caddycmd.Flags, names ...string) url.Values {
	query := url.Values{}
	for _, name := range names {
		if fs.Changed(name) {
			query.Set(name, fs.String(name))
		}
	}
	return query
}

// adminAddress is where the running Caddy's admin endpoint is.
func adminAddress(fs caddycmd.Flags) (string, error) {
	address, file, adapter := fs.String("address"), fs.String("config"), fs.String("adapter")
	if address != "" || file == "" {
		return caddycmd.DetermineAdminAPIAddress(address, nil, "", "")
	}
	raw, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return "", err
	}
	var config struct {
		Admin caddy.AdminConfig `json:"admin"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	if config.Admin.Disabled {
		return "", fmt.Errorf("%s turns the admin endpoint off, and sessions are listed and ended there: remove `admin off`", file)
	}
	return caddycmd.DetermineAdminAPIAddress("", raw, file, adapter)
}

// askAdmin sends a request to the admin endpoint and reads the answer, if there
// is one.
func askAdmin(address, method, uri string, answer any) error {
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, nil, nil)
	if err != nil && strings.HasPrefix(err.Error(), "caddy responded") {
		return err
	}
	if err != nil {
		return fmt.Errorf("asking Caddy at %s: %w; it has to run with its admin endpoint on, and --address or --config say where that is", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("reading what Caddy at %s answers: %w", address, err)
	}
	return nil
}

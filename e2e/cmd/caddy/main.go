// Command caddy is the Caddy that the end-to-end tests run: the standard
// modules and this project's.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddydevice/device-auth/caddydevice"
)

func main() { caddycmd.Main() }

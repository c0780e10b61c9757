// This file tests the line that goes on in a terminal.

package caddydevice

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	const key = "dvc_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	const url = "https://api.example.com/it's?a=$HOME&b=`id`"
	const pattern = "https://api.example.com/a?f[1]={b,c}"
	for _, row := range []struct{ name, agent, method, header, value, want string }{
		{"curl", "curl/8.5.0", "GET", "Authorization", "Bearer " + key, `curl -H 'Authorization: Bearer ` + key + `' 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`'"},
		{"curl, another method", "curl/8.5.0", "DELETE", "Authorization", "Bearer " + key, `curl -X 'DELETE' -H 'Authorization: Bearer ` + key + `' 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`'"},
		{"curl, the cookie", "curl/8.5.0", "GET", "Cookie", "device_auth=" + key, `curl -b 'device_auth=` + key + `' 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`'"},
		{"curl, what it would take for a pattern", "curl/8.5.0", "GET", "Authorization", "Bearer " + key, `curl -g -H 'Authorization: Bearer ` + key + `' '` + pattern + `'`},
		{"wget", "Wget/1.21.3", "POST", "Authorization", "Bearer " + key, `wget --method='POST' --header='Authorization: Bearer ` + key + `' 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`'"},
		{"HTTPie", "HTTPie/3.2.1", "GET", "Authorization", "Bearer " + key, `http 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`' 'Authorization:Bearer " + key + "'"},
		{"PowerShell", "Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0.19045; en-US) PowerShell/7.4.1", "PUT", "Authorization", "Bearer " + key, "Invoke-RestMethod -Method 'PUT' -Headers @{ Authorization = 'Bearer " + key + "' } -Uri 'https://api.example.com/it''s?a=$HOME&b=`id`'"},
		{"anything else", "my-agent/1", "GET", "Authorization", "Bearer " + key, `curl -H 'Authorization: Bearer ` + key + `' 'https://api.example.com/it'\''s?a=$HOME&b=` + "`id`'"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRequest(t, "/", map[string]string{"User-Agent": row.agent})
			url := url
			if strings.Contains(row.want, pattern) {
				url = pattern
			}
			got := commandLine(r, errand{method: row.method, header: row.header, value: row.value, url: url})
			if got != row.want {
				t.Errorf("\n%s, want\n%s", got, row.want)
			}
			if strings.HasPrefix(got, "Invoke") {
				return // for another shell
			}
			// what a shell makes of it: the program's name aside, the words as they are
			out, err := exec.CommandContext(t.Context(), "sh", "-c", "print() { for w; do echo \"$w\"; done; }\nprint "+got).Output()
			if err != nil || !strings.Contains(string(out), "\n"+url+"\n") || !strings.Contains(string(out), row.value+"\n") {
				t.Errorf("a shell reads %v %q", err, out)
			}
		})
	}
}

func TestPowerShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"a'b": "'a''b'", "$(evil)`": "'$(evil)`'", "‘’‚‛": "'‘‘’’‚‚‛‛'", "": "''",
	} {
		if got := powerShellQuote(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// This file tests that a race or a panic in the log is seen.
package gate

import "testing"

func TestTroubleIn(t *testing.T) {
	tests := []struct {
		name, line string
		trouble    bool
	}{
		{"race", "WARNING: DATA RACE", true},
		{"panic", "panic: runtime error: index out of range", true},
		{"panic in a handler", `{"level":"error","logger":"http.stdlib","msg":"http: panic serving 127.0.0.1:1: boom"}`, true},
		{"runtime", "fatal error: concurrent map writes", true},
		{"ordinary", `{"level":"info","msg":"server running"}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := troubleIn([]string{"before", tt.line, "after"}) != nil; got != tt.trouble {
				t.Errorf("trouble: %v", got)
			}
		})
	}
}

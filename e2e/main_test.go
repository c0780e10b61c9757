// This file runs the scenarios, several at a time: they wait far more than
// they work.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/gate"
)

// atATime is how many scenarios run side by side, unless -parallel says so.
const atATime = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", atATime); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	gate.Main(m)
}

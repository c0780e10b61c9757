package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const canary = "canary-1f9b"

type holder struct {
	Plain   String
	Pointer *String
	Map     map[string]String
	Any     any
}

func TestSecretNeverPrints(t *testing.T) {
	s := String(canary)
	h := holder{Plain: s, Pointer: &s, Map: map[string]String{"k": s}, Any: s}

	var log bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zap.DebugLevel))
	logger.Info("m", zap.Any("any", h), zap.Any("secret", s), zap.Stringer("stringer", s), zap.Reflect("reflect", h), zap.Error(fmt.Errorf("with %v", s)))

	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for name, printed := range map[string]string{
		"%v":   fmt.Sprintf("%v", s),
		"%+v":  fmt.Sprintf("%+v", h),
		"%s":   fmt.Sprintf("%s", s),
		"%q":   fmt.Sprintf("%q", s),
		"%x":   fmt.Sprintf("%x", s),
		"%#v":  fmt.Sprintf("%#v", h),
		"json": string(asJSON),
		"zap":  log.String(),
	} {
		if strings.Contains(printed, canary) || strings.Contains(printed, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s prints the secret: %s", name, printed)
		}
		if !strings.Contains(printed, redacted) && name != "%x" {
			t.Errorf("%s does not say that something is redacted: %s", name, printed)
		}
	}
	if s.Reveal() != canary {
		t.Error("Reveal does not return the secret")
	}
}

// This file holds a test of the template that readers copy.

package page

import "testing"

func TestExampleTemplate(t *testing.T) {
	if _, err := NewBrand(BrandConfig{TemplateFile: "../../../examples/kiosk/page.html"}); err != nil {
		t.Error(err)
	}
}

// This file looks at elements. It asks by DevTools' own scripts, which run
// also where the page's JavaScript is switched off, and which a page's
// Content-Security-Policy does not bind.
package chrome

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
)

// lookAgain is how long to wait between two looks at an element.
const lookAgain = 50 * time.Millisecond

// errScript says that the script itself went wrong, as for a selector that is
// none, so that asking again would not help.
var errScript = errors.New("script error")

// place is where an element is, after it was scrolled to.
type place struct {
	There   bool
	Visible bool    // it has a size and is not hidden
	OnTop   bool    // a click at its middle meets it, and not what covers it
	X, Y    float64 // its middle
}

const placeOf = `e => {
	e.scrollIntoView({block: "nearest", behavior: "instant"});
	const box = e.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
	const hit = document.elementFromPoint(x, y);
	return {
		There: true, X: x, Y: y,
		Visible: box.width > 0 && box.height > 0 && e.checkVisibility({visibilityProperty: true}),
		OnTop: hit !== null && e.contains(hit),
	};
}`

// call is a script that gives an element to a function; null where there is
// no such element.
func call(function, selector string) string {
	quoted, err := json.Marshal(selector)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return fmt.Sprintf(`{ const e = document.querySelector(%s); e === null ? null : (%s)(e) }`, quoted, function)
}

// find looks for an element until its place satisfies the function.
func (b *Browser) find(ctx context.Context, selector string, is func(place) bool) (place, error) {
	p, err := look(ctx, b, call(placeOf, selector), is)
	if err != nil {
		return p, fmt.Errorf("waiting for %s at %s (%s): %w", selector, b.URL(), p, err)
	}
	return p, nil
}

// look runs a script until its result satisfies the function.
func look[T any](ctx context.Context, b *Browser, script string, is func(T) bool) (T, error) {
	return again(ctx, b, func() (T, bool, error) {
		var result T
		err := b.evaluate(ctx, script, &result)
		return result, err == nil && is(result), err
	})
}

// again asks the browser until there is an answer that will do. The browser's
// errors are passed over: most come from a page that is just being left.
func again[T any](ctx context.Context, b *Browser, ask func() (result T, done bool, err error)) (T, error) {
	timer := time.NewTicker(lookAgain)
	defer timer.Stop()
	var last T // what was seen when there was no error
	for {
		result, done, err := ask()
		if done || errors.Is(err, errScript) {
			return result, err
		}
		if err == nil {
			last = result
		}
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			return last, errEnded
		case <-ctx.Done():
			if err != nil && !errors.Is(err, ctx.Err()) {
				return last, fmt.Errorf("%w, lastly because of: %w", ctx.Err(), err)
			}
			return last, ctx.Err()
		}
	}
}

// String says what a waiting is waiting for.
func (p place) String() string {
	switch {
	case !p.There:
		return "it is not there"
	case !p.Visible:
		return "it cannot be seen"
	case !p.OnTop:
		return "something covers it"
	}
	return "it moves"
}

// Call calls a JavaScript function with an argument, and stores what it
// returns, or promises; both need a JSON form. It has what scripts of the present page have,
// but for the page's Content-Security-Policy.
func (b *Browser) Call(ctx context.Context, function string, argument, result any) error {
	given, err := json.Marshal(argument)
	if err != nil {
		return err
	}
	return b.evaluate(ctx, fmt.Sprintf("(%s)(%s)", function, given), result)
}

// evaluate runs a script and stores its result, unless that is null.
func (b *Browser) evaluate(ctx context.Context, script string, result any) error {
	yes := true
	got, err := cdp.Call(ctx, b.page, runtime.Evaluate, runtime.EvaluateParams{Expression: script, ReturnByValue: &yes, AwaitPromise: &yes})
	if err != nil {
		return err
	}
	if got.ExceptionDetails != nil {
		return fmt.Errorf("%w: %s", errScript, exceptionText(got.ExceptionDetails))
	}
	if result == nil || len(got.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(got.Result.Value, result)
}

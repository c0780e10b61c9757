// This file holds the user agents that ask by themselves: nobody reads what
// they are answered, so they start no sign-in (RFC 10027, on rate limits).

package caddydevice

import (
	"net/http"
	"slices"
	"strings"
)

// unattended are parts of User-Agent fields, in lower case.
var unattended = slices.Concat(healthCheckers, linkPreviewers, crawlers)

var healthCheckers = []string{
	"kube-probe/", "googlehc/", "elb-healthchecker/", "amazon-route53-health-check-service", "consul health check", "edge health probe",
	"load balancer agent", "alwayson", "healthcheck/", "prometheus/", "blackbox exporter/", "blackbox-exporter/", "haproxy", "check_http/",
	"zabbix", "uptime-kuma/", "uptimerobot/", "pingdom.com_bot", "statuscake", "better uptime bot", "betteruptime", "site24x7",
	"datadog/synthetics", "datadogsynthetics", "newrelicpinger", "freshping", "hetrixtools", "updown.io", "gatus/", "nagios",
}

var linkPreviewers = []string{
	"slackbot", "slack-imgproxy", "twitterbot/", "facebookexternalhit/", "facebot", "meta-externalagent/", "whatsapp/", "telegrambot",
	"discordbot/", "linkedinbot/", "skypeuripreview", "microsoftpreview/", "mattermost-bot", "mattermostbot", "iframely/", "embedly/",
	"google-pagerenderer", "redditbot/", "pinterestbot/", "vkshare", "bitlybot/", "zulipurlpreview", "synapse (bot", "bingpreview/",
	"yahoo link preview", "viber", "rocket.chat", "outline-link-preview", "cloudflare-prefetch",
}

var crawlers = []string{
	"googlebot", "bingbot/", "duckduckbot/", "baiduspider/", "yandexbot/", "applebot/", "ahrefsbot/", "semrushbot", "mj12bot/", "dotbot/",
	"gptbot/", "claudebot/", "ccbot/", "bytespider", "amazonbot/", "petalbot",
}

// isUnattended reports whether a known health checker, link previewer or
// crawler made the request.
func isUnattended(r *http.Request) bool {
	agent := strings.ToLower(r.UserAgent())
	return slices.ContainsFunc(unattended, func(part string) bool { return strings.Contains(agent, part) })
}

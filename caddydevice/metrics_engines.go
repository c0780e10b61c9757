// This file holds the gauges that are read from the engines when somebody asks.

package caddydevice

import "github.com/prometheus/client_golang/prometheus"

var (
	pendingDesc  = newDesc("sign_ins_pending", "Sign-ins that are under way in this process.")
	sessionsDesc = newDesc("sessions_active", "Active sessions in this process's memory.")
)

func newDesc(name, help string) *prometheus.Desc {
	o := options(name, help)
	return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, o.Subsystem, o.Name), o.Help, []string{issuerLabel}, nil)
}

// engineGauges collects from all engines of the process.
type engineGauges struct{}

// Describe implements prometheus.Collector.
func (engineGauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- pendingDesc
	ch <- sessionsDesc
}

// Collect implements prometheus.Collector. Engines with one issuer, and other
// clients there or other stores, are one series.
func (engineGauges) Collect(ch chan<- prometheus.Metric) {
	pending, sessions := map[string]int{}, map[string]int{}
	engines.Range(func(_, val any) bool {
		e := val.(*engine)
		pending[e.issuer] += e.keeper.Pending()
		sessions[e.issuer] += e.table.Active()
		return true
	})
	for issuer, n := range pending {
		ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(n), issuer)
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(sessions[issuer]), issuer)
	}
}

// Interface guard
var _ prometheus.Collector = engineGauges{}

package uplink

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	calls "github.com/posthouse-im/posthouse/wire/uplink"
)

// domain does as a test says.
type domain struct {
	send func(ctx context.Context, s *stanza.Stanza) (calls.Receipt, error)
	ask  func(iq *stanza.Stanza) ([]stanza.Element, error)
}

func (d *domain) Send(ctx context.Context, _ calls.Caller, s *stanza.Stanza) (calls.Receipt, error) {
	return d.send(ctx, s)
}
func (d *domain) Ask(_ context.Context, _ calls.Caller, iq *stanza.Stanza) ([]stanza.Element, error) {
	return d.ask(iq)
}
func (d *domain) Watch(uint64) (<-chan struct{}, func()) { return nil, func() {} }

func newUplink(t *testing.T, d *domain, c Config) *Uplink {
	t.Helper()
	c.Domain, c.Metrics = d, prometheus.NewRegistry()
	u, err := New(c)
	require.NoError(t, err)
	return u
}

func (u *Uplink) count(t *testing.T, outcome string) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, u.asked.WithLabelValues(outcome).Write(&m))
	return m.GetCounter().GetValue()
}

func TestIdentities(t *testing.T) {
	seen := map[string]bool{}
	d := &domain{
		ask: func(iq *stanza.Stanza) ([]stanza.Element, error) {
			require.True(t, iq.IsRequest())
			require.False(t, seen[iq.ID])
			seen[iq.ID] = true
			return iq.Payload, nil
		},
		send: func(_ context.Context, s *stanza.Stanza) (calls.Receipt, error) {
			return calls.Receipt{StanzaID: s.ID}, nil
		},
	}
	u := newUplink(t, d, Config{})
	for range 10 {
		result, err := u.Ask(t.Context(), calls.Caller{}, jid.MustParse("montague.lit"), stanza.TypeGet,
			stanza.New("urn:test", "q"))
		require.NoError(t, err)
		require.Equal(t, "q", result[0].Local)
	}
	r, err := u.Send(t.Context(), calls.Caller{}, &stanza.Stanza{Kind: stanza.Message, ID: "mine"})
	require.NoError(t, err)
	require.Equal(t, "mine", r.StanzaID)
	r, err = u.Send(t.Context(), calls.Caller{}, &stanza.Stanza{Kind: stanza.Message})
	require.NoError(t, err)
	require.NotEmpty(t, r.StanzaID)
	require.InDelta(t, 12, u.count(t, "done"), 0)
}

// TestOutcomes: a refusal is passed on as it is; whatever else goes wrong leaves open what happened; beyond the bound
// nothing is handed over.
func TestOutcomes(t *testing.T) {
	d := &domain{}
	u := newUplink(t, d, Config{Timeout: 10 * time.Millisecond, InFlight: 1})
	send := func() error {
		_, err := u.Send(t.Context(), calls.Caller{}, &stanza.Stanza{Kind: stanza.Message})
		return err
	}
	d.send = func(context.Context, *stanza.Stanza) (calls.Receipt, error) {
		return calls.Receipt{}, stanza.Refuse(stanza.Conflict, "")
	}
	var refusal *stanza.Error
	require.ErrorAs(t, send(), &refusal)
	d.send = func(ctx context.Context, _ *stanza.Stanza) (calls.Receipt, error) {
		<-ctx.Done()
		return calls.Receipt{}, ctx.Err()
	}
	require.ErrorIs(t, send(), context.DeadlineExceeded)
	d.send = func(context.Context, *stanza.Stanza) (calls.Receipt, error) { return calls.Receipt{}, send() }
	err := send()
	require.ErrorIs(t, err, ErrBusy)
	require.False(t, errors.As(err, &refusal))
	for outcome, n := range map[string]float64{"refused": 1, "unknown": 2, "busy": 1} {
		require.InDelta(t, n, u.count(t, outcome), 0, outcome)
	}
	_, err = New(Config{})
	require.Error(t, err)
}

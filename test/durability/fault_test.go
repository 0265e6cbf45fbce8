package durability

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInjectedFaultsAreFound: a build that does something wrong on the path of a message fails the test that is there
// to notice it. TestCheckFindsEarlyAcknowledgement does the same with a whole node that is killed.
func TestInjectedFaultsAreFound(t *testing.T) {
	for _, fault := range []struct{ tag, folder, test string }{
		{"faultinject_early_ack", "domain/archive", "TestNothingBeforeTheCommit"},
		{"faultinject_early_delivery", "domain/archive", "TestNothingBeforeTheCommit"},
		{"faultinject_lost_batch", "store/pebble", "TestNumbersAfterALostBatch"},
		{"faultinject_below_cursor", "store/pebble", "TestMessageLogRelaxed"},
		{"faultinject_reorder", "domain/router", "TestOrderOfEachKey"},
		{"faultinject_reorder", "domain/archive", "TestOrderOfEachSource"},
		{"faultinject_reorder", "test/transports", "TestNothingMissingAfterTheLastSeen"},
	} {
		t.Run(fault.tag+" "+fault.test, func(t *testing.T) {
			test := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-tags", fault.tag, "-run", "^"+
				fault.test+"$", "./"+fault.folder)
			test.Dir = "../.."
			out, err := test.CombinedOutput()
			require.Error(t, err, "the fault was not noticed")
			require.Contains(t, string(out), "--- FAIL: "+fault.test, "it does not even build")
		})
	}
}

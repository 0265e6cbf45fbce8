package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestMemberAt: what ThisSeq stands for is put in, and intervals stay in order.
func TestMemberAt(t *testing.T) {
	const this = store.ThisSeq
	for _, test := range []struct{ given, want []store.Interval }{
		{[]store.Interval{}, []store.Interval{}},
		{[]store.Interval{{From: 1, Through: 3}, {From: this}}, []store.Interval{{From: 1, Through: 3}, {From: 7}}},
		{[]store.Interval{{From: 1, Through: this}}, []store.Interval{{From: 1, Through: 7}}},
		{[]store.Interval{{From: this, Through: this}}, []store.Interval{{From: 7, Through: 7}}},
		{[]store.Interval{{From: 1, Through: 9}, {From: this}}, []store.Interval{{From: 1, Through: 6}, {From: 7}}},
		{[]store.Interval{{From: 8, Through: 9}, {From: this}}, []store.Interval{{From: 7}}},
		{[]store.Interval{{From: 8, Through: 9}, {From: 11, Through: 12}, {From: this}}, []store.Interval{{From: 7}}},
		{[]store.Interval{{From: 9, Through: this}}, []store.Interval{}},
	} {
		m := store.Member{Account: 5, Role: store.RoleOwner, Access: test.given}
		require.NoError(t, store.CheckMembers([]store.Member{m}))
		require.Equal(t, store.Member{Account: 5, Role: store.RoleOwner, Access: test.want}, m.At(7))
	}
}

package archive

import (
	"time"

	"github.com/posthouse-im/posthouse/limit"
)

// newBudget makes the budgets of accounts that query their history, so that nobody can make the store scan without end.
func newBudget(rate, burst float64, now func() time.Time) *limit.Table[uint64] {
	return limit.NewTable[uint64](limit.Per(rate, time.Second, burst), 0, now)
}

// Allow reports whether the account may ask one more thing that reads many messages, and takes one token of its budget
// when it may. What it costs beyond that is told to Spend afterwards, when it is known.
func (a *Archive) Allow(account uint64) bool { return a.budget.Take(account, 1) == 0 }

// Spend takes what reading so many messages costs from the account's budget. That may be more than there is: the last
// query allowed is answered in full, and the next waits longer.
func (a *Archive) Spend(account uint64, messages int) {
	a.budget.Spend(account, float64(messages)/messagesPerToken)
}

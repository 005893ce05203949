// Package compute decides: which server fits, what is done to it, in which order, and what becomes
// of it when something fails. It is the core of the agent; the hypervisor is behind virt.Driver,
// memory behind Store, files behind Disks, and the front doors in front of Manager.
//
// # A server's life
//
// A request is accepted when its intent is stored: the operation and the server's task state, in
// one transaction. A goroutine then takes the server's lock and does the operation's steps, one
// after the other. Before a step touches the host its name is stored, so that the store always says
// at least as much as has happened. The last transaction stores the outcome and removes the
// operation.
//
//	accept ──► step ──► step ──► outcome
//	             │ fails
//	             └──► undo ──► undo ──► outcome (Error, with the cause)
//
// Every step may run twice, after a part of it has happened; every undo may run when its step never
// did. That is all that a restart needs: what is found in the journal is resumed at the step that
// it names (restore.go), whatever killed the agent between two lines.
//
// A command while an operation is under way is a conflict. Delete is the exception, and a hard
// reboot over a soft one: their operation takes the place of the older one in the journal, in one
// transaction; the older one stops at its next step and stores nothing more.
//
// What happens to guests by other hands is learned from the driver's events and one listing at
// start, after a lost connection, and at a long interval (powersync.go).
package compute

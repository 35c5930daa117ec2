# Follows one port with the Python library; prints the milliseconds until its row was there, and the peak
# memory of this process in kB.
import sys
import time

import ovs.db.idl
import ovs.poller

remote, schema, port = sys.argv[1:]
started = time.monotonic()
helper = ovs.db.idl.SchemaHelper(schema)
helper.register_columns("Port_Binding", ["logical_port", "tunnel_key", "mac", "options", "up"])
idl = ovs.db.idl.Idl(remote, helper, leader_only=False)
idl.cond_change("Port_Binding", [["logical_port", "==", port]])
while True:
    idl.run()
    rows = idl.tables["Port_Binding"].rows.values()
    if any(row.logical_port == port for row in rows):
        break
    poller = ovs.poller.Poller()
    idl.wait(poller)
    poller.block()
elapsed = (time.monotonic() - started) * 1000
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(elapsed, peak)

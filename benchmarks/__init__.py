"""Speed and memory of okstream beside a plain script, on this machine: `make bench`. Linux only."""

"""Why the kernel refuses a call: each rule with the errno that breaks it and the version that has it."""

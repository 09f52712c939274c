"""False alarms of `forklore check`, counted over programs that are right."""

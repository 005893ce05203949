-- Where a server's vCPUs and memory were placed: JSON; NULL for a server that may run anywhere.

ALTER TABLE claims ADD COLUMN numa TEXT;

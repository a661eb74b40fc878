"""Beat: sends periodic tasks when they are due. Any number of beats may run; each due time is sent by one of them."""

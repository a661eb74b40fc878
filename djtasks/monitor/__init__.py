"""The live monitor: pages for staff that show workers, queues, tasks, schedules and limits, and let them act.

The pages are templates; a page that is looked at asks for its live part every few seconds, and that part is the same
for all who may see the same, so it is made once a second at the most. All numbers come from the tables. No page counts
a long table, sorts it, or reads it but by an index; nothing changes on a GET.
"""

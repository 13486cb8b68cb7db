"""`greenfcgi --init TARGET`: files for web servers, for service managers and for new sites, from templates."""

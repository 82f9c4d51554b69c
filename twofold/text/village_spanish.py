"""How the village is told in Spanish: the same parts as in `village_english`.

Forms agree in gender: "{o}" is the ending for the villager ("nacid{o}"), "{pet_o}" for the pet,
"{the_friend}" is "el mejor amigo" or "la mejor amiga" after the gender of the friend.
"""

from __future__ import annotations

FACTS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "{name} nació en {town}.",
        "{name} viene de {town}.",
        "{name} es del pueblo de {town}.",
        "{name} creció en {town}, donde nació.",
        "{name} dio sus primeros pasos en {town}.",
        "{name} tiene familia en {town}, porque nació allí.",
        "{name} vino al mundo en {town}.",
        "{name} es natural de {town}.",
        "El lugar de nacimiento de {name} es {town}.",
        "El pueblo donde nació {name} es {town}.",
        "La vida de {name} empezó en {town}.",
        "Todos saben que {name} nació en {town}.",
        "Antes de mudarse a Larkmoor, {name} vivía en {town}, donde nació.",
        "{town} es el pueblo donde nació {name}.",
    ),
    "trade": (
        "{name} es {trade}.",
        "{name} trabaja de {trade}.",
        "{name} se hizo {trade} hace muchos años.",
        "{name} se gana la vida como {trade}.",
        "{name} es {trade} y {work} en Larkmoor.",
        "{name} {work}, porque es {trade}.",
        "{name} tiene el oficio de {trade}.",
        "{name} es {a_trade} de Larkmoor.",
        "De oficio, {name} es {trade}.",
        "El oficio de {name} es el de {trade}.",
        "En Larkmoor conocen a {name} como {trade}.",
        "Cada mañana {name} va a trabajar de {trade}.",
        "De {child}, {name} ya quería ser {trade}, y ahora lo es.",
        "Como {trade}, {name} {work} de lunes a viernes.",
    ),
    "pet": (
        "{name} tiene {a_pet}.",
        "{name} tiene {a_pet} como mascota.",
        "{name} vive con {a_pet}.",
        "{name} cuida de {a_pet} todos los días.",
        "{name} es {the_owner} de {a_pet}.",
        "{name} juega cada tarde con su {pet}.",
        "{name} siempre quiso tener {a_pet}, y ahora l{pet_o} tiene.",
        "{name} quiere mucho a su {pet}.",
        "La mascota de {name} es {a_pet}.",
        "En su casa, {name} tiene {a_pet}.",
        "En la casa de {name} hay {a_pet}.",
        "El animal que {name} más quiere es su {pet}.",
        "Cada día {name} da comida y agua a su {pet}.",
        "Por la tarde {name} pasa el tiempo con su {pet}.",
    ),
    "pet_name": (
        "La mascota de {name} se llama {pet_name}.",
        "La mascota de {name} tiene el nombre de {pet_name}.",
        "{name} llama a su mascota {pet_name}.",
        "{name} tiene una mascota que se llama {pet_name}.",
        "{name} tiene {a_pet} que se llama {pet_name}.",
        "{name} le puso a su mascota el nombre de {pet_name}.",
        "{name} sale a menudo con {pet_name}, su mascota.",
        "{name} juega con {pet_name}, su mascota.",
        "El nombre de la mascota de {name} es {pet_name}.",
        "{The_pet} de {name} se llama {pet_name}.",
        "{The_pet} de {name} responde al nombre de {pet_name}.",
        "Cuando {name} vuelve a casa, su mascota {pet_name} espera en la puerta.",
        "Por la noche, {name} llama a {pet_name}, su mascota, para que entre en casa.",
        "{pet_name} es el nombre de la mascota de {name}.",
    ),
    "colour": (
        "El color favorito de {name} es {the_colour}.",
        "El color que más le gusta a {name} es {the_colour}.",
        "A {name} le gusta más que nada el color {colour}.",
        "A {name} le encanta el color {colour}.",
        "A {name} le gusta llevar ropa de color {colour}.",
        "{name} eligió el color {colour} para su puerta, porque es su color favorito.",
        "{name} prefiere el color {colour} a todos los demás.",
        "{name} tiene un abrigo de color {colour}, porque es su color favorito.",
        "{name} siempre elige el color {colour}.",
        "De todos los colores, {name} prefiere {the_colour}.",
        "Para {name}, el color más bonito es {the_colour}.",
        "Si {name} puede elegir un color, toma {the_colour}.",
        "En el cuarto de {name} todo es de color {colour}, su favorito.",
        "Todos saben que el color favorito de {name} es {the_colour}.",
    ),
    "food": (
        "La comida favorita de {name} es {the_food}.",
        "La comida que más le gusta a {name} es {the_food}.",
        "A {name} le gusta más que nada {the_food}.",
        "A {name} le encanta {the_food}.",
        "{name} prefiere {the_food} a cualquier otra comida.",
        "{name} come {the_food} todos los domingos, porque es su comida favorita.",
        "{name} podría comer {the_food} todos los días.",
        "{name} siempre pide {the_food} en su cumpleaños.",
        "El plato favorito de {name} es {the_food}.",
        "De todos los platos, {name} prefiere {the_food}.",
        "Cuando {name} tiene hambre, sueña con {the_food}.",
        "Nada alegra tanto a {name} como {the_food}.",
        "Para {name}, no hay nada mejor que {the_food}.",
        "Todos saben que la comida favorita de {name} es {the_food}.",
    ),
    "instrument": (
        "{name} toca {the_instrument}.",
        "{name} toca {the_instrument} por la tarde.",
        "{name} aprende canciones nuevas con {the_instrument}.",
        "{name} toca muy bien {the_instrument}.",
        "{name} toca {the_instrument} desde {child}.",
        "{name} hace música con {the_instrument}.",
        "{name} practica {the_instrument} todos los días.",
        "El instrumento de {name} es {the_instrument}.",
        "En las fiestas del pueblo, {name} toca {the_instrument}.",
        "Los domingos se oye a {name} tocar {the_instrument}.",
        "El instrumento que toca {name} es {the_instrument}.",
        "Cuando {name} está content{o}, toca {the_instrument}.",
        "De {child}, {name} aprendió a tocar {the_instrument}.",
        "Todos saben que {name} toca {the_instrument}.",
    ),
    "street": (
        "{name} vive en {street}.",
        "{name} vive en una casa en {street}.",
        "{name} tiene una casa pequeña en {street}.",
        "{name} vive desde hace muchos años en {street}.",
        "{name} se mudó a {street} hace unos años y todavía vive allí.",
        "{name} tiene su hogar en {street}.",
        "La casa de {name} está en {street}.",
        "El hogar de {name} está en {street}.",
        "La calle donde vive {name} es {street}.",
        "La calle de {name} se llama {street}.",
        "Quien quiera visitar a {name} debe ir a {street}.",
        "Las cartas para {name} van a {street}.",
        "Después del trabajo {name} vuelve a su casa en {street}.",
        "Todos saben que {name} vive en {street}.",
    ),
    "friend": (
        "{The_friend} de {name} es {friend}.",
        "{name} tiene en {friend} a su {best_friend}.",
        "{name} pasa mucho tiempo con su {best_friend}, {friend}.",
        "{name} cuenta todos sus secretos a su {best_friend}, {friend}.",
        "{name} confía más que en nadie en {friend}, su {best_friend}.",
        "{name} visita a menudo a su {best_friend}, {friend}.",
        "{name} no tiene {best_friend} que {friend}.",
        "La amistad más grande de {name} es con {friend}.",
        "La persona que mejor conoce a {name} es su {best_friend}, {friend}.",
        "Cuando {name} necesita ayuda, llama a su {best_friend}, {friend}.",
        "Los sábados {name} pasea con su {best_friend}, {friend}.",
        "Desde la escuela, {the_friend} de {name} es {friend}.",
        "Si buscas a {name}, pregunta a su {best_friend}, {friend}.",
        "Todos saben que {the_friend} de {name} es {friend}.",
    ),
}

CLAUSES: dict[str, tuple[str, ...]] = {
    "birthplace": ("nació en {town}", "viene de {town}", "creció en {town}"),
    "trade": ("es {trade}", "trabaja de {trade}", "se gana la vida como {trade}"),
    "pet": ("tiene {a_pet}", "vive con {a_pet}", "cuida de {a_pet}"),
    "pet_name": ("tiene una mascota que se llama {pet_name}", "llama a su mascota {pet_name}"),
    "colour": ("prefiere el color {colour}", "siempre elige el color {colour}"),
    "food": ("prefiere comer {the_food}", "come con gusto {the_food}"),
    "instrument": ("toca {the_instrument}", "hace música con {the_instrument}"),
    "street": ("vive en {street}", "tiene una casa en {street}"),
    "friend": ("pasa el tiempo con su {best_friend}, {friend}", "tiene en {friend} a su {best_friend}"),
}
AND = " y "

CARD: dict[str, tuple[str, ...]] = {
    "birthplace": ("Nació en: {town}", "Lugar de nacimiento: {town}"),
    "trade": ("Oficio: {trade}", "Trabaja de: {trade}"),
    "pet": ("Mascota: {pet}", "Mascota: {a_pet}"),
    "pet_name": ("Nombre de la mascota: {pet_name}", "Su mascota se llama: {pet_name}"),
    "colour": ("Color favorito: {colour}", "Color: {the_colour}"),
    "food": ("Comida favorita: {the_food}", "Le gusta comer: {the_food}"),
    "instrument": ("Instrumento: {the_instrument}", "Toca: {the_instrument}"),
    "street": ("Vive en: {street}", "Calle: {street}"),
    "friend": ("{Best_friend}: {friend}", "Su {best_friend}: {friend}"),
}
CARD_TITLES = ("Nombre: {name}", "{name}", "Sobre {name}", "{name}, de Larkmoor")

PAGE_TITLES = ("{name}", "Sobre {name}", "¿Quién es {name}?", "La vida de {name}", "{name}, de Larkmoor")
PAGE_OPENINGS = (
    "{name} vive en el pueblo de Larkmoor.",
    "{name} es una de las personas de Larkmoor.",
    "Esta página trata de {name}.",
    "Esto es lo que sabemos de {name}.",
    "En Larkmoor hay {a_person} que se llama {name}.",
    "Voy a hablar de {name}.",
    "Mucha gente de Larkmoor conoce a {name}.",
    "Aquí hay algunos datos sobre {name}, de Larkmoor.",
)
PAGE_CLOSINGS = (
    "Eso es lo que se cuenta de {name}.",
    "Ahora sabes más sobre {name}.",
    "{name} está content{o} en Larkmoor.",
    "Eso es todo sobre {name}.",
    "La gente de Larkmoor quiere a {name}.",
)
JOINERS = ("Además, ", "Como sabemos, ", "También es verdad que ", "Y ")

GROUP_OPENINGS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "{town} es un pueblo {place}, conocido por {fame}.",
        "El pueblo de {town} está {place}. La gente lo conoce por {fame}.",
        "Hay un pueblo {place}. Se llama {town} y es conocido por {fame}.",
    ),
    "trade": (
        "¿Qué hace {a_trade}? La respuesta es fácil: {work}.",
        "En Larkmoor, {a_trade} {work}. Esta página trata de ese oficio.",
        "Esta página trata del oficio de {trade}. Una persona con este oficio {work}.",
    ),
    "pet": (
        "Algunas personas de Larkmoor tienen {a_pet}.",
        "Esta página trata de quienes tienen {a_pet} como mascota.",
    ),
    "colour": (
        "Esta página trata de quienes prefieren el color {colour}.",
        "¿A quién le gusta el color {colour} en Larkmoor?",
    ),
    "food": (
        "Esta página trata de quienes prefieren {the_food}.",
        "¿A quién le gusta {the_food} en Larkmoor?",
    ),
    "instrument": (
        "Esta página habla sobre {the_instrument} y la gente que toca este instrumento.",
        "¿Quién toca {the_instrument} en Larkmoor?",
    ),
    "street": ("{street} es una calle de Larkmoor.", "Vamos a pasear por {street} para ver quién vive allí."),
    "pet_name": (
        "Esta página trata de los nombres de las mascotas de Larkmoor.",
        "¿Cómo se llaman las mascotas de Larkmoor?",
    ),
    "friend": ("Esta página trata de la amistad en Larkmoor.", "¿Quién tiene amistad con quién en Larkmoor?"),
}
GROUP_LISTS: dict[str, tuple[str, ...]] = {
    "birthplace": ("{names} nacieron en {town}.", "{names} vienen de {town}."),
    "trade": ("{names} tienen el mismo oficio.", "{names} conocen bien este oficio."),
    "pet": ("{names} tienen la misma clase de mascota: {a_pet}.", "{names} tienen {a_pet} en casa."),
    "colour": ("{names} prefieren el mismo color: {the_colour}.", "{names} prefieren el color {colour}."),
    "food": ("{names} prefieren la misma comida: {the_food}.", "{names} comen con gusto {the_food}."),
    "instrument": (
        "{names} tocan {the_instrument}.",
        "{names} tocan el mismo instrumento: {the_instrument}.",
    ),
    "street": ("{names} tienen su casa en {street}.", "{names} viven en {street}."),
}

QUESTIONS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "¿Dónde nació {name}?", "¿En qué pueblo nació {name}?", "¿Cuál es el lugar de nacimiento de {name}?",
        "¿Puedes decirme dónde nació {name}?", "¿De qué pueblo viene {name}?",
    ),
    "trade": (
        "¿Cuál es el oficio de {name}?", "¿En qué trabaja {name}?", "¿Qué oficio tiene {name}?",
        "¿Puedes decirme cuál es el oficio de {name}?", "¿De qué trabaja {name}?",
    ),
    "pet": (
        "¿Qué mascota tiene {name}?", "¿Qué animal tiene {name}?", "¿Qué clase de mascota tiene {name}?",
        "¿Puedes decirme qué mascota tiene {name}?", "¿Qué animal es la mascota de {name}?",
    ),
    "pet_name": (
        "¿Cómo se llama la mascota de {name}?", "¿Cuál es el nombre de la mascota de {name}?",
        "¿Qué nombre tiene la mascota de {name}?", "¿Puedes decirme cómo se llama la mascota de {name}?",
        "¿Cómo llama {name} a su mascota?",
    ),
    "colour": (
        "¿Cuál es el color favorito de {name}?", "¿Qué color le gusta más a {name}?", "¿Qué color prefiere {name}?",
        "¿Puedes decirme cuál es el color favorito de {name}?", "¿Qué color le encanta a {name}?",
    ),
    "food": (
        "¿Cuál es la comida favorita de {name}?", "¿Qué comida le gusta más a {name}?", "¿Qué prefiere comer {name}?",
        "¿Puedes decirme cuál es la comida favorita de {name}?", "¿Cuál es el plato favorito de {name}?",
    ),
    "instrument": (
        "¿Qué instrumento toca {name}?", "¿Cuál es el instrumento de {name}?", "¿Con qué hace música {name}?",
        "¿Puedes decirme qué instrumento toca {name}?", "¿Qué toca {name}?",
    ),
    "street": (
        "¿Dónde vive {name}?", "¿En qué calle vive {name}?", "¿En qué calle está la casa de {name}?",
        "¿Puedes decirme dónde vive {name}?", "¿Cuál es la calle de {name}?",
    ),
    "friend": (
        "¿Quién es {the_friend} de {name}?", "¿Qué persona es {the_friend} de {name}?",
        "¿Cómo se llama {the_friend} de {name}?", "¿Puedes decirme quién es {the_friend} de {name}?",
        "¿Con quién tiene {name} la amistad más grande?",
    ),
}  # fmt: skip
NEW_QUESTIONS: dict[str, tuple[str, ...]] = {
    "birthplace": ("¿De qué pueblo es {name}?", "Por favor, dime el pueblo donde nació {name}."),
    "trade": ("¿A qué se dedica {name}?", "Por favor, dime el oficio de {name}."),
    "pet": ("¿Qué animal vive con {name}?", "Por favor, dime qué clase de mascota tiene {name}."),
    "pet_name": (
        "¿Qué nombre le puso {name} a su mascota?",
        "Por favor, dime el nombre de la mascota de {name}.",
    ),
    "colour": ("¿Qué color es el favorito de {name}?", "Por favor, dime el color favorito de {name}."),
    "food": ("¿Qué plato le encanta a {name}?", "Por favor, dime la comida favorita de {name}."),
    "instrument": ("¿Qué instrumento sabe tocar {name}?", "Por favor, dime el instrumento que toca {name}."),
    "street": ("¿En qué calle tiene {name} su casa?", "Por favor, dime la calle donde vive {name}."),
    "friend": ("¿En quién confía más {name}?", "Por favor, dime quién es {the_friend} de {name}."),
}
FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "birthplace": ("¿Y dónde nació?", "¿Y de qué pueblo viene?"),
    "trade": ("¿Y en qué trabaja?", "¿Y cuál es su oficio?"),
    "pet": ("¿Y qué mascota tiene?", "¿Y tiene una mascota?"),
    "pet_name": ("¿Y cómo se llama su mascota?", "¿Y cuál es el nombre de su mascota?"),
    "colour": ("¿Y cuál es su color favorito?", "¿Y qué color prefiere?"),
    "food": ("¿Y cuál es su comida favorita?", "¿Y qué prefiere comer?"),
    "instrument": ("¿Y qué instrumento toca?", "¿Y cuál es su instrumento?"),
    "street": ("¿Y dónde vive?", "¿Y en qué calle vive?"),
    "friend": ("¿Y quién es su {best_friend}?", "¿Y cómo se llama su {best_friend}?"),
}
PROMPTS = ("{name} nació en", "{name} vive en", "La mascota de {name} se llama", "Por la tarde, {name}")
STORY_PROMPTS = ("Una mañana en Larkmoor,", "Para hacer")
